//! BFCL's `TradingBot`: stocks, orders, a watch list and one account.

use std::sync::Arc;

use super::{ApiClass, BfclContext, LongContext};
use crate::python::call::{Default, Signature, method, optional, required};
use crate::python::{DateTime, Dict, Exception, Random, Result, Value, number, ops, text};

/// The clock stands still at 2024-09-01 10:30.
const CURRENT_TIME: &str = "10:30 AM";
/// The same moment in seconds since 1970, UTC.
const CURRENT_TIMESTAMP: i64 = 1_725_186_600;
const SECONDS_PER_DAY: i64 = 86_400;
const DATE: &str = "%Y-%m-%d";
const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S";
const DEFAULT_SEED: i64 = 1_053_520;

static METHODS: &[Signature] = &[
    method("get_current_time", &[]),
    method("get_symbol_by_name", &[required("name")]),
    method("get_stock_info", &[required("symbol")]),
    method("get_order_details", &[required("order_id")]),
    method("cancel_order", &[required("order_id")]),
    method("place_order", &[required("order_type"), required("symbol"), required("price"), required("amount")]),
    method("withdraw_funds", &[required("amount")]),
    method("get_account_info", &[]),
    method("trading_login", &[required("username"), required("password")]),
    method("trading_get_login_status", &[]),
    method("trading_logout", &[]),
    method("fund_account", &[required("amount")]),
    method("remove_stock_from_watchlist", &[required("symbol")]),
    method("get_watchlist", &[]),
    method("get_order_history", &[]),
    method("get_transaction_history", &[optional("start_date", Default::None), optional("end_date", Default::None)]),
    method("get_available_stocks", &[required("sector")]),
    method("filter_stocks_by_price", &[required("stocks"), required("min_price"), required("max_price")]),
    method("add_to_watchlist", &[required("stock")]),
    method("notify_price_change", &[required("stocks"), required("threshold")]),
];

/// Company names and their symbols.
const SYMBOLS: &[(&str, &str)] = &[
    ("Apple", "AAPL"),
    ("Google", "GOOG"),
    ("Tesla", "TSLA"),
    ("Microsoft", "MSFT"),
    ("Nvidia", "NVDA"),
    ("Zeta Corp", "ZETA"),
    ("Alpha Tech", "ALPH"),
    ("Omega Industries", "OMEG"),
    ("Quasar Ltd.", "QUAS"),
    ("Neptune Systems", "NEPT"),
    ("Synex Solutions", "SYNX"),
    ("Amazon", "AMZN"),
    ("Gorilla", "GORI"),
];

/// Sectors, their stocks, and the constant with more of them in long_context.
const SECTORS: &[(&str, &[&str], &str)] = &[
    ("Technology", &["AAPL", "GOOG", "MSFT", "NVDA"], "TECHNOLOGY_EXTENSION"),
    ("Automobile", &["TSLA", "F", "GM"], "AUTOMOBILE_EXTENSION"),
];

const STOCK_FIELDS: [&str; 5] = ["price", "percent_change", "volume", "MA(5)", "MA(20)"];

/// The stocks of a scenario that lists none: symbol and [`STOCK_FIELDS`].
const DEFAULT_STOCKS: &[(&str, [f64; 5])] = &[
    ("AAPL", [227.16, 0.17, 2.552, 227.11, 227.09]),
    ("GOOG", [2840.34, 0.24, 1.123, 2835.67, 2842.15]),
    ("TSLA", [667.92, -0.12, 1.654, 671.15, 668.20]),
    ("MSFT", [310.23, 0.09, 3.234, 309.88, 310.11]),
    ("NVDA", [220.34, 0.34, 1.234, 220.45, 220.67]),
    ("ALPH", [1320.45, -0.08, 1.567, 1321.12, 1325.78]),
    ("OMEG", [457.23, 0.12, 2.345, 456.78, 458.12]),
    ("QUAS", [725.89, -0.03, 1.789, 726.45, 728.00]),
    ("NEPT", [88.34, 0.19, 0.654, 88.21, 88.67]),
    ("SYNX", [345.67, 0.11, 2.112, 345.34, 346.12]),
    ("ZETA", [22.09, -0.05, 0.789, 22.12, 22.34]),
];

fn default_stocks() -> Value {
    Value::dict(DEFAULT_STOCKS.iter().map(|(symbol, numbers)| {
        (symbol, Value::dict(STOCK_FIELDS.into_iter().zip(numbers.iter().map(|number| Value::Float(*number)))))
    }))
}

fn default_orders() -> Value {
    let order = |id: i64, order_type: &str, symbol: &str, price: f64, amount: i64, status: &str| {
        let order = Value::dict([
            ("id", Value::int(id)),
            ("order_type", Value::str(order_type)),
            ("symbol", Value::str(symbol)),
            ("price", Value::Float(price)),
            ("amount", Value::int(amount)),
            ("status", Value::str(status)),
        ]);
        (Value::int(id), order)
    };
    let orders =
        [order(12345, "Buy", "AAPL", 210.65, 10, "Completed"), order(12446, "Sell", "GOOG", 2840.56, 5, "Pending")];
    Value::Dict(Arc::new(orders.into_iter().collect()))
}

fn default_account() -> Value {
    Value::dict([
        ("account_id", Value::int(12345)),
        ("balance", Value::Float(10000.0)),
        ("binding_card", Value::int(1_974_202_140_965_533_i64)),
    ])
}

/// One trading account and its market.
#[derive(Clone, Debug)]
pub struct TradingBot {
    orders: Value,
    account_info: Value,
    authenticated: Value,
    market_status: Value,
    order_counter: Value,
    stocks: Value,
    watch_list: Value,
    transaction_history: Value,
    long_context: Option<Arc<LongContext>>,
    random: Random,
}

/// Makes a [`TradingBot`] from its part of a scenario.
pub fn create(scenario: &Dict, context: &BfclContext) -> Result<Box<dyn ApiClass>> {
    let given = |key: &str, default: fn() -> Value| scenario.get(key).cloned().unwrap_or_else(default);
    Ok(Box::new(TradingBot {
        orders: number_order_ids(&given("orders", default_orders))?,
        account_info: given("account_info", default_account),
        authenticated: given("authenticated", || Value::Bool(false)),
        market_status: given("market_status", || Value::str("Closed")),
        order_counter: given("order_counter", || Value::int(12446)),
        stocks: given("stocks", default_stocks),
        watch_list: given("watch_list", || Value::list([Value::str("NVDA")])),
        transaction_history: given("transaction_history", || Value::list([])),
        long_context: context.long_context.clone(),
        random: Random::from_value(&given("random_seed", || Value::int(DEFAULT_SEED)))?,
    }))
}

/// Scenarios are JSON, so their order ids are texts: those of digits become ints. Other keys stay, as do the values;
/// most scenarios have a stray key `"order_type"` with a text.
fn number_order_ids(orders: &Value) -> Result<Value> {
    let mut numbered = Dict::new();
    for (key, order) in ops::dict_for(orders, "items")?.iter() {
        let key = match key.as_str() {
            Some(digits) if number::is_digit(digits) => Value::Int(number::int(key)?),
            _ => key.clone(),
        };
        numbered.set(key, order.clone());
    }
    Ok(Value::Dict(Arc::new(numbered)))
}

impl ApiClass for TradingBot {
    fn class_name(&self) -> &'static str {
        "TradingBot"
    }

    fn signatures(&self) -> &'static [Signature] {
        METHODS
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> Result<Value> {
        match (method, arguments) {
            ("get_current_time", []) => Ok(Value::dict([("current_time", Value::str(CURRENT_TIME))])),
            ("get_symbol_by_name", [name]) => get_symbol_by_name(name),
            ("get_stock_info", [symbol]) => self.get_stock_info(symbol),
            ("get_order_details", [order_id]) => self.get_order_details(order_id),
            ("cancel_order", [order_id]) => self.cancel_order(order_id),
            ("place_order", [order_type, symbol, price, amount]) => self.place_order(order_type, symbol, price, amount),
            ("withdraw_funds", [amount]) => self.withdraw_funds(amount),
            ("get_account_info", []) => Ok(self.get_account_info()),
            ("trading_login", [_, _]) => Ok(self.log_in()),
            ("trading_get_login_status", []) => Ok(Value::dict([("status", self.authenticated.truthy().into())])),
            ("trading_logout", []) => Ok(self.log_out()),
            ("fund_account", [amount]) => self.fund_account(amount),
            ("remove_stock_from_watchlist", [symbol]) => self.remove_stock_from_watchlist(symbol),
            ("get_watchlist", []) => self.get_watchlist(),
            ("get_order_history", []) => self.get_order_history(),
            ("get_transaction_history", [start_date, end_date]) => self.get_transaction_history(start_date, end_date),
            ("get_available_stocks", [sector]) => self.get_available_stocks(sector),
            ("filter_stocks_by_price", [stocks, min, max]) => self.filter_stocks_by_price(stocks, min, max),
            ("add_to_watchlist", [stock]) => self.add_to_watchlist(stock),
            ("notify_price_change", [stocks, threshold]) => self.notify_price_change(stocks, threshold),
            _ => unreachable!("TradingBot.{method} with {} arguments is not in its signatures", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("orders", self.orders.clone()),
            ("account_info", self.account_info.clone()),
            ("authenticated", self.authenticated.clone()),
            ("market_status", self.market_status.clone()),
            ("order_counter", self.order_counter.clone()),
            ("stocks", self.stocks.clone()),
            ("watch_list", self.watch_list.clone()),
            ("transaction_history", self.transaction_history.clone()),
            ("long_context", self.long_context.is_some().into()),
        ]
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

fn get_symbol_by_name(name: &Value) -> Result<Value> {
    name.check_hashable()?;
    let known = SYMBOLS.iter().find(|(company, _)| name.as_str() == Some(company));
    Ok(Value::dict([("symbol", Value::str(known.map_or("Stock not found", |(_, symbol)| symbol)))]))
}

impl TradingBot {
    /// Refuses in the original's words unless someone is logged in.
    fn check_login(&self, purpose: &str) -> std::result::Result<(), Value> {
        if self.authenticated.truthy() {
            return Ok(());
        }
        Err(Value::error(format!("User not authenticated. Please log in to {purpose}.")))
    }

    fn get_stock_info(&self, symbol: &Value) -> Result<Value> {
        if !ops::contains(&self.stocks, symbol)? {
            return Ok(Value::error(format!("Stock with symbol '{}' not found.", text::str(symbol))));
        }
        let mut stock = ops::get_item(&self.stocks, symbol)?;
        if let Some(extra) = &self.long_context {
            check_copyable(&stock)?;
            ops::set_item(&mut stock, Value::str("MA(5)"), extra.constant("MA_5_EXTENSION").clone())?;
            ops::set_item(&mut stock, Value::str("MA(20)"), extra.constant("MA_20_EXTENSION").clone())?;
        }
        Ok(stock)
    }

    fn get_order_details(&self, order_id: &Value) -> Result<Value> {
        if !ops::contains(&self.orders, order_id)? {
            let known = Value::list(ops::iterate(&self.orders)?);
            return Ok(Value::error(format!(
                "Order with ID {} not found.Here is the list of orders_id: {}",
                text::str(order_id),
                text::repr(&known)
            )));
        }
        let mut order = ops::get_item(&self.orders, order_id)?;
        if let Some(extra) = &self.long_context {
            check_copyable(&order)?;
            let symbol = text::str(&ops::get_key(&order, "symbol")?);
            let templates = ops::dict_for(extra.constant("ORDER_DETAIL_EXTENSION"), "items")?;
            // The templates have no braces but those of `{symbol}`.
            let filled = templates
                .iter()
                .map(|(key, template)| (key.clone(), Value::str(text::str(template).replace("{symbol}", &symbol))));
            let metadata = Value::Dict(Arc::new(filled.collect()));
            ops::set_item(&mut order, Value::str("metadata"), metadata)?;
        }
        Ok(order)
    }

    fn cancel_order(&mut self, order_id: &Value) -> Result<Value> {
        if !ops::contains(&self.orders, order_id)? {
            return Ok(Value::error(format!("Order with ID {} not found.", text::str(order_id))));
        }
        if ops::get_key(&ops::get_item(&self.orders, order_id)?, "status")?.as_str() == Some("Completed") {
            return Ok(Value::error(format!(
                "Can't cancel order {}. Order is already completed.",
                text::str(order_id)
            )));
        }
        ops::set_item(ops::item_mut(&mut self.orders, order_id)?, Value::str("status"), Value::str("Cancelled"))?;
        Ok(Value::dict([("order_id", order_id.clone()), ("status", Value::str("Cancelled"))]))
    }

    fn place_order(&mut self, order_type: &Value, symbol: &Value, price: &Value, amount: &Value) -> Result<Value> {
        if let Err(refusal) = self.check_login("place an order") {
            return Ok(refusal);
        }
        if !ops::contains(&self.stocks, symbol)? {
            return Ok(Value::error(format!("Invalid stock symbol: {}", text::str(symbol))));
        }
        if ops::le(price, &Value::int(0))? || ops::le(amount, &Value::int(0))? {
            return Ok(Value::error("Price and amount must be positive values."));
        }
        // No character beyond ASCII becomes one of "buy" in lower case.
        if ops::text_for(order_type, "lower")?.eq_ignore_ascii_case("buy") {
            let cost = number::float(price)? * ops::int_to_float(&number::int(amount)?)?;
            let balance = ops::dict_for(&self.account_info, "get")?.get("balance").cloned();
            let balance = balance.unwrap_or_else(|| Value::int(0));
            if ops::gt(&Value::Float(cost), &balance)? {
                return Ok(Value::error(format!(
                    "Insufficient funds: required ${} but only ${} available.",
                    number::format_fixed(cost, 2),
                    number::format_fixed(number::float(&balance)?, 2)
                )));
            }
        }
        let price = Value::Float(number::float(price)?);
        let order_id = self.order_counter.clone();
        let order = Value::dict([
            ("id", order_id.clone()),
            ("order_type", order_type.clone()),
            ("symbol", symbol.clone()),
            ("price", price.clone()),
            ("amount", amount.clone()),
            ("status", Value::str("Open")),
        ]);
        ops::set_item(&mut self.orders, order_id.clone(), order)?;
        ops::add_assign(&mut self.order_counter, &Value::int(1))?;
        // The answer says "Pending", the order "Open": the original imitates the delay until an order is accepted.
        Ok(Value::dict([
            ("order_id", order_id),
            ("order_type", order_type.clone()),
            ("status", Value::str("Pending")),
            ("price", price),
            ("amount", amount.clone()),
        ]))
    }

    fn withdraw_funds(&mut self, amount: &Value) -> Result<Value> {
        if let Err(refusal) = self.check_login("make a transaction") {
            return Ok(refusal);
        }
        if self.market_status.as_str() != Some("Open") {
            return Ok(Value::error("Market is closed. Transactions are not allowed."));
        }
        if ops::le(amount, &Value::int(0))? {
            return Ok(Value::error("Transaction amount must be positive."));
        }
        if ops::gt(amount, &ops::get_key(&self.account_info, "balance")?)? {
            return Ok(Value::error("Insufficient funds for withdrawal."));
        }
        ops::sub_assign(ops::item_mut(&mut self.account_info, &Value::str("balance"))?, amount)?;
        self.record_transaction("withdrawal", amount)?;
        self.new_balance("Withdrawal successful")
    }

    fn fund_account(&mut self, amount: &Value) -> Result<Value> {
        if let Err(refusal) = self.check_login("fund the account") {
            return Ok(refusal);
        }
        if ops::le(amount, &Value::int(0))? {
            return Ok(Value::error("Funding amount must be positive."));
        }
        ops::add_assign(ops::item_mut(&mut self.account_info, &Value::str("balance"))?, amount)?;
        self.record_transaction("deposit", amount)?;
        self.new_balance("Account funded successfully")
    }

    fn record_transaction(&mut self, kind: &str, amount: &Value) -> Result<()> {
        let history = ops::list_for(&mut self.transaction_history, "append")?;
        // Some moment of the day that follows the current time.
        let moment = self.random.randint(CURRENT_TIMESTAMP, CURRENT_TIMESTAMP + SECONDS_PER_DAY);
        history.push(Value::dict([
            ("type", Value::str(kind)),
            ("amount", amount.clone()),
            ("timestamp", Value::from(DateTime::from_timestamp(moment).to_string())),
        ]));
        Ok(())
    }

    fn new_balance(&self, status: &str) -> Result<Value> {
        let balance = ops::get_key(&self.account_info, "balance")?;
        Ok(Value::dict([("status", Value::str(status)), ("new_balance", balance)]))
    }

    fn get_account_info(&self) -> Value {
        match self.check_login("view account information") {
            Ok(()) => self.account_info.clone(),
            Err(refusal) => refusal,
        }
    }

    fn log_in(&mut self) -> Value {
        if self.authenticated.truthy() {
            return Value::dict([("status", Value::str("Already logged in"))]);
        }
        self.authenticated = Value::Bool(true);
        Value::dict([("status", Value::str("Logged in successfully"))])
    }

    fn log_out(&mut self) -> Value {
        if !self.authenticated.truthy() {
            return Value::dict([("status", Value::str("No user is currently logged in"))]);
        }
        self.authenticated = Value::Bool(false);
        Value::dict([("status", Value::str("Logged out successfully"))])
    }

    fn remove_stock_from_watchlist(&mut self, symbol: &Value) -> Result<Value> {
        if let Err(refusal) = self.check_login("modify the watchlist") {
            return Ok(refusal);
        }
        if !ops::contains(&self.watch_list, symbol)? {
            return Ok(Value::error(format!("Stock {} not found in watchlist.", text::str(symbol))));
        }
        let watch_list = ops::list_for(&mut self.watch_list, "remove")?;
        if let Some(index) = watch_list.iter().position(|watched| watched == symbol) {
            watch_list.remove(index);
        }
        Ok(Value::dict([(
            "status",
            Value::from(format!("Stock {} removed from watchlist successfully.", text::str(symbol))),
        )]))
    }

    fn add_to_watchlist(&mut self, stock: &Value) -> Result<Value> {
        if !ops::contains(&self.watch_list, stock)? && ops::contains(&self.stocks, stock)? {
            ops::list_for(&mut self.watch_list, "append")?.push(stock.clone());
        }
        Ok(Value::dict([("watchlist", self.watch_list.clone())]))
    }

    fn get_watchlist(&self) -> Result<Value> {
        if !self.authenticated.truthy() {
            // Unlike its neighbours, a list of one text.
            let refusal = "Error: User not authenticated. Please log in to view the watchlist.";
            return Ok(Value::list([Value::str(refusal)]));
        }
        let Some(extra) = &self.long_context else {
            return Ok(Value::dict([("watchlist", self.watch_list.clone())]));
        };
        // In long_context the list itself, without a name.
        check_copyable(&self.watch_list)?;
        let mut watch_list = self.watch_list.clone();
        let more = ops::iterate(extra.constant("WATCH_LIST_EXTENSION"))?;
        ops::list_for(&mut watch_list, "extend")?.extend(more);
        Ok(watch_list)
    }

    fn get_order_history(&self) -> Result<Value> {
        if let Err(refusal) = self.check_login("view order history") {
            return Ok(Value::list([refusal]));
        }
        Ok(Value::dict([("history", Value::list(ops::iterate(&self.orders)?))]))
    }

    fn get_transaction_history(&self, start_date: &Value, end_date: &Value) -> Result<Value> {
        if let Err(refusal) = self.check_login("view transaction history") {
            return Ok(Value::list([refusal]));
        }
        let date_or = |date: &Value, default: DateTime| {
            if date.truthy() { DateTime::strptime(date, DATE) } else { Ok(default) }
        };
        let start = date_or(start_date, DateTime::MIN)?;
        let end = date_or(end_date, DateTime::MAX)?;
        let mut transactions = Vec::new();
        for transaction in ops::iterate(&self.transaction_history)? {
            let moment = DateTime::strptime(&ops::get_key(&transaction, "timestamp")?, TIMESTAMP)?;
            if start <= moment && moment <= end {
                transactions.push(transaction);
            }
        }
        if let Some(extra) = &self.long_context {
            // All of them, whatever the dates.
            transactions.extend(ops::iterate(extra.constant("TRANSACTION_HISTORY_EXTENSION"))?);
        }
        Ok(Value::dict([("transaction_history", Value::list(transactions))]))
    }

    fn get_available_stocks(&self, sector: &Value) -> Result<Value> {
        sector.check_hashable()?;
        let mut stocks = Vec::new();
        if let Some((_, symbols, more)) = SECTORS.iter().find(|(name, ..)| sector.as_str() == Some(name)) {
            stocks.extend(symbols.iter().map(Value::str));
            if let Some(extra) = &self.long_context {
                stocks.extend(ops::iterate(extra.constant(more))?);
            }
        }
        Ok(Value::dict([("stock_list", Value::list(stocks))]))
    }

    fn filter_stocks_by_price(&self, stocks: &Value, min_price: &Value, max_price: &Value) -> Result<Value> {
        let mut within = Vec::new();
        for symbol in ops::iterate(stocks)? {
            let known = ops::dict_for(&self.stocks, "get")?;
            symbol.check_hashable()?;
            // An unknown stock costs nothing.
            let price = match known.get_value(&symbol) {
                Some(stock) => ops::dict_for(stock, "get")?.get("price").cloned(),
                None => None,
            };
            let price = price.unwrap_or_else(|| Value::int(0));
            if ops::ge(&price, min_price)? && ops::le(&price, max_price)? {
                within.push(symbol);
            }
        }
        Ok(Value::dict([("filtered_stocks", Value::list(within))]))
    }

    fn notify_price_change(&self, stocks: &Value, threshold: &Value) -> Result<Value> {
        let mut changed = Vec::new();
        for symbol in ops::iterate(stocks)? {
            if !ops::contains(&self.stocks, &symbol)? {
                continue;
            }
            let change = ops::get_key(&ops::get_item(&self.stocks, &symbol)?, "percent_change")?;
            if ops::ge(&number::abs(&change)?, threshold)? {
                changed.push(text::str(&symbol));
            }
        }
        let notification = if changed.is_empty() {
            "No significant price changes in the selected stocks.".to_owned()
        } else {
            format!("Stocks {} have significant price changes.", changed.join(", "))
        };
        Ok(Value::dict([("notification", Value::from(notification))]))
    }
}

/// Refuses what has no `copy` method, as the original copies before it adds long_context data.
fn check_copyable(value: &Value) -> Result<()> {
    match value {
        Value::Dict(_) | Value::List(_) => Ok(()),
        other => Err(Exception::no_attribute(other, "copy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(scenario: &[(&str, Value)], long_context: Option<LongContext>) -> Box<dyn ApiClass> {
        let scenario = scenario.iter().map(|(key, value)| (Value::str(key), value.clone())).collect();
        let context = BfclContext { long_context: long_context.map(Arc::new), ..std::default::Default::default() };
        create(&scenario, &context).unwrap()
    }

    fn call(bot: &mut dyn ApiClass, method: &str, arguments: &[Value]) -> String {
        match bot.invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    #[test]
    fn an_order_is_pending_in_the_answer_and_open_in_the_book() {
        let mut bot = bot(&[], None);
        let order = [Value::str("Sell"), Value::str("NVDA"), Value::int(5), Value::int(2)];
        assert_eq!(
            call(&mut *bot, "place_order", &order),
            r#"{"error": "User not authenticated. Please log in to place an order."}"#
        );
        call(&mut *bot, "trading_login", &[Value::str("a"), Value::str("b")]);
        // The default counter is the id of an existing order, which is overwritten.
        assert_eq!(
            call(&mut *bot, "place_order", &order),
            r#"{"order_id": 12446, "order_type": "Sell", "status": "Pending", "price": 5.0, "amount": 2}"#
        );
        assert!(call(&mut *bot, "get_order_details", &[Value::int(12446)]).contains(r#""status": "Open""#));
        assert_eq!(bot.state().get("order_counter"), Some(&Value::int(12447)));
        let dear = [Value::str("BUY"), Value::str("NVDA"), Value::Float(2.5), Value::int(5000)];
        assert_eq!(
            call(&mut *bot, "place_order", &dear),
            r#"{"error": "Insufficient funds: required $12500.00 but only $10000.00 available."}"#
        );
    }

    /// Timestamps from CPython 3.11.
    #[test]
    fn transactions_happen_at_random_moments_of_the_next_day() {
        let mut bot = bot(&[("authenticated", Value::Bool(true)), ("market_status", Value::str("Open"))], None);
        assert_eq!(
            call(&mut *bot, "fund_account", &[Value::int(5)]),
            r#"{"status": "Account funded successfully", "new_balance": 10005.0}"#
        );
        call(&mut *bot, "withdraw_funds", &[Value::Float(0.5)]);
        let history = call(&mut *bot, "get_transaction_history", &[Value::None, Value::str("2024-09-02")]);
        assert_eq!(
            history,
            r#"{"transaction_history": [{"type": "withdrawal", "amount": 0.5, "timestamp": "2024-09-01 12:26:34"}]}"#
        );
        let history = call(&mut *bot, "get_transaction_history", &[Value::str("2024-09-02"), Value::None]);
        assert!(history.contains("2024-09-02 05:40:15"), "{history}");
        assert_eq!(
            call(&mut *bot, "get_transaction_history", &[Value::int(2024), Value::None]),
            "Error during execution: strptime() argument 1 must be str, not int"
        );
    }

    #[test]
    fn a_stray_text_among_the_orders_breaks_what_touches_it() {
        let orders = Value::dict([("order_type", Value::str("Buy")), ("7", Value::dict([("status", "Open".into())]))]);
        let mut bot = bot(&[("orders", orders)], None);
        assert_eq!(call(&mut *bot, "cancel_order", &[Value::int(7)]), r#"{"order_id": 7, "status": "Cancelled"}"#);
        assert_eq!(
            call(&mut *bot, "cancel_order", &[Value::str("order_type")]),
            "Error during execution: string indices must be integers, not 'str'"
        );
        assert_eq!(
            call(&mut *bot, "get_order_details", &[Value::str("7")]),
            r#"{"error": "Order with ID 7 not found.Here is the list of orders_id: ['order_type', 7]"}"#
        );
    }

    #[test]
    fn long_context_adds_to_answers_but_not_to_state() {
        let extra = LongContext::from_constants([
            ("WATCH_LIST_EXTENSION".to_owned(), Value::list([Value::str("X")])),
            ("ORDER_DETAIL_EXTENSION".to_owned(), Value::dict([("risks", Value::str("{symbol} is {symbol}"))])),
        ]);
        let mut bot = bot(&[("authenticated", Value::Bool(true))], Some(extra));
        let before = bot.state();
        assert_eq!(call(&mut *bot, "get_watchlist", &[]), "['NVDA', 'X']");
        let order = call(&mut *bot, "get_order_details", &[Value::int(12345)]);
        assert!(order.ends_with(r#""metadata": {"risks": "AAPL is AAPL"}}"#), "{order}");
        assert_eq!(bot.state(), before);
    }
}
