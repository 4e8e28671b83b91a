//! BFCL's `TravelAPI`: flights, credit cards, bookings and insurance.

use std::sync::Arc;

use super::{ApiClass, BfclContext};
use crate::python::call::{Default, Signature, method, optional, required};
use crate::python::{DateTime, Dict, Exception, ExceptionKind, Random, Result, Value, number, ops, text};

const DATE: &str = "%Y-%m-%d";
const DEFAULT_SEED: i64 = 141_053;

static METHODS: &[Signature] = &[
    method(
        "authenticate_travel",
        &[
            required("client_id"),
            required("client_secret"),
            required("refresh_token"),
            required("grant_type"),
            required("user_first_name"),
            required("user_last_name"),
        ],
    ),
    method("travel_get_login_status", &[]),
    method(
        "get_budget_fiscal_year",
        &[optional("lastModifiedAfter", Default::None), optional("includeRemoved", Default::None)],
    ),
    method(
        "register_credit_card",
        &[
            required("access_token"),
            required("card_number"),
            required("expiration_date"),
            required("cardholder_name"),
            required("card_verification_number"),
        ],
    ),
    method(
        "get_flight_cost",
        &[required("travel_from"), required("travel_to"), required("travel_date"), required("travel_class")],
    ),
    method("get_credit_card_balance", &[required("access_token"), required("card_id")]),
    method(
        "book_flight",
        &[
            required("access_token"),
            required("card_id"),
            required("travel_date"),
            required("travel_from"),
            required("travel_to"),
            required("travel_class"),
        ],
    ),
    method(
        "retrieve_invoice",
        &[required("access_token"), optional("booking_id", Default::None), optional("insurance_id", Default::None)],
    ),
    method("get_booking_history", &[required("access_token")]),
    method("list_all_airports", &[]),
    method("cancel_booking", &[required("access_token"), required("booking_id")]),
    method("compute_exchange_rate", &[required("base_currency"), required("target_currency"), required("value")]),
    method(
        "verify_traveler_information",
        &[required("first_name"), required("last_name"), required("date_of_birth"), required("passport_number")],
    ),
    method("set_budget_limit", &[required("access_token"), required("budget_limit")]),
    method("get_nearest_airport_by_city", &[required("location")]),
    method(
        "purchase_insurance",
        &[
            required("access_token"),
            required("insurance_type"),
            required("booking_id"),
            required("insurance_cost"),
            required("card_id"),
        ],
    ),
    method("contact_customer_support", &[required("booking_id"), required("message")]),
    method("get_all_credit_cards", &[]),
];

/// Airports in the order in which they are listed.
const AIRPORTS: &[&str] = &[
    "RMS", "SBK", "MPC", "SVP", "SHD", "CDG", "LHR", "SSV", "OKD", "WLB", "PEK", "HND", "HKG", "CIA", "CRH", "ATV",
    "PHV", "GFD", "SFO", "LAX", "JFK", "ORD", "BOS",
];

/// Cities and their nearest airports.
const NEAREST_AIRPORTS: &[(&str, &str)] = &[
    ("Rivermist", "RMS"),
    ("Stonebrook", "SBK"),
    ("Maplecrest", "MPC"),
    ("Silverpine", "SVP"),
    ("Shadowridge", "SHD"),
    ("London", "LHR"),
    ("Paris", "CDG"),
    ("Sunset Valley", "SSV"),
    ("Oakendale", "OKD"),
    ("Willowbend", "WLB"),
    ("Crescent Hollow", "CRH"),
    ("Autumnville", "ATV"),
    ("Pinehaven", "PHV"),
    ("Greenfield", "GFD"),
    ("San Francisco", "SFO"),
    ("Los Angeles", "LAX"),
    ("New York", "JFK"),
    ("Chicago", "ORD"),
    ("Boston", "BOS"),
    ("Beijing", "PEK"),
    ("Hong Kong", "HKG"),
    ("Rome", "CIA"),
    ("Tokyo", "HND"),
];

/// Prices of routes in USD: from, then to and price. long_context lists all of them in this order.
#[rustfmt::skip]
const ROUTES: &[(&str, &[(&str, u32)])] = &[
    ("SFO", &[
        ("LAX", 200), ("JFK", 500), ("ORD", 400), ("BOS", 450), ("RMS", 300), ("SBK", 350), ("MPC", 370), ("SVP", 320),
        ("SHD", 330), ("SSV", 340), ("OKD", 360), ("WLB", 310), ("CRH", 380), ("ATV", 390), ("PHV", 420), ("GFD", 430),
        ("CIA", 700),
    ]),
    ("LAX", &[
        ("SFO", 100), ("JFK", 600), ("ORD", 500), ("BOS", 550), ("RMS", 310), ("SBK", 320), ("MPC", 330), ("SVP", 340),
        ("SHD", 350), ("SSV", 360), ("OKD", 370), ("WLB", 380), ("CRH", 390), ("ATV", 400), ("PHV", 410), ("GFD", 420),
        ("HND", 430),
    ]),
    ("JFK", &[
        ("ORD", 300), ("BOS", 250), ("RMS", 450), ("SBK", 460), ("MPC", 470), ("SVP", 480), ("SHD", 490), ("SSV", 500),
        ("OKD", 510), ("WLB", 520), ("CRH", 530), ("ATV", 540), ("PHV", 550), ("GFD", 560), ("LAX", 570), ("HND", 800),
        ("PVG", 950), ("PEK", 1000),
    ]),
    ("ORD", &[
        ("LAX", 180), ("BOS", 200), ("RMS", 350), ("SBK", 360), ("MPC", 370), ("SVP", 380), ("SHD", 390), ("SSV", 400),
        ("OKD", 410), ("WLB", 420), ("CRH", 430), ("ATV", 440), ("PHV", 450), ("GFD", 460),
    ]),
    ("BOS", &[
        ("RMS", 400), ("SBK", 410), ("MPC", 420), ("SVP", 430), ("SHD", 440), ("SSV", 450), ("OKD", 460), ("WLB", 470),
        ("CRH", 480), ("ATV", 490), ("PHV", 500), ("GFD", 510),
    ]),
    ("RMS", &[
        ("BOS", 200), ("JFK", 210), ("SBK", 220), ("MPC", 230), ("SVP", 240), ("SHD", 250), ("SSV", 260), ("OKD", 270),
        ("WLB", 280), ("CRH", 290), ("ATV", 300), ("PHV", 310), ("GFD", 320), ("LAX", 330),
    ]),
    ("SBK", &[
        ("MPC", 200), ("SVP", 210), ("SHD", 220), ("SSV", 230), ("OKD", 240), ("WLB", 250), ("CRH", 260), ("ATV", 270),
        ("PHV", 280), ("GFD", 290),
    ]),
    ("MPC", &[
        ("SVP", 210), ("SHD", 220), ("SSV", 230), ("OKD", 240), ("WLB", 250), ("CRH", 260), ("ATV", 270), ("PHV", 280),
        ("GFD", 290),
    ]),
    ("SVP", &[
        ("SHD", 230), ("SSV", 240), ("OKD", 250), ("WLB", 260), ("CRH", 270), ("ATV", 280), ("PHV", 290), ("GFD", 300),
    ]),
    ("SHD", &[("SSV", 220), ("OKD", 230), ("WLB", 240), ("CRH", 250), ("ATV", 260), ("PHV", 270), ("GFD", 280)]),
    ("SSV", &[("OKD", 240), ("WLB", 250), ("CRH", 260), ("ATV", 270), ("PHV", 280), ("GFD", 290)]),
    ("OKD", &[("WLB", 230), ("CRH", 240), ("ATV", 250), ("PHV", 260), ("GFD", 270)]),
    ("WLB", &[("CRH", 250), ("ATV", 260), ("PHV", 270), ("GFD", 280)]),
    ("CRH", &[("ATV", 240), ("PHV", 250), ("GFD", 260), ("SFO", 270), ("RMS", 280), ("HKG", 290), ("JFK", 300)]),
    ("ATV", &[("PHV", 230), ("GFD", 240)]),
    ("PHV", &[("GFD", 220)]),
    ("LHR", &[("CDG", 100)]),
    ("OKD", &[("LAX", 220)]),
];

/// Fare classes and their price factors.
const CLASSES: &[(&str, u32)] = &[("economy", 1), ("business", 2), ("first", 5)];

/// What one US dollar buys.
const EXCHANGE_RATES: &[(&str, Rate)] = &[
    ("RMB", Rate::Int(7)),
    ("EUR", Rate::Float(0.8)),
    ("JPY", Rate::Int(110)),
    ("GBP", Rate::Float(0.7)),
    ("CAD", Rate::Float(1.3)),
    ("AUD", Rate::Float(1.4)),
    ("INR", Rate::Int(70)),
    ("RUB", Rate::Int(60)),
    ("BRL", Rate::Float(3.8)),
    ("MXN", Rate::Int(20)),
];

/// A rate's type shows: a text may be multiplied by an int, but not by a float.
#[derive(Clone, Copy, Debug)]
enum Rate {
    Int(i64),
    Float(f64),
}

impl From<Rate> for Value {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::Int(rate) => Self::int(rate),
            Rate::Float(rate) => Self::Float(rate),
        }
    }
}

/// One traveler's session.
#[derive(Clone, Debug)]
pub struct TravelApi {
    credit_card_list: Value,
    booking_record: Value,
    access_token: Value,
    token_type: Value,
    token_expires_in: Value,
    token_scope: Value,
    user_first_name: Value,
    user_last_name: Value,
    budget_limit: Value,
    long_context: bool,
    random: Random,
    today: (i32, u32, u32),
}

/// Makes a [`TravelApi`] from its part of a scenario.
pub fn create(scenario: &Dict, context: &BfclContext) -> Result<Box<dyn ApiClass>> {
    let given = |key: &str, default: fn() -> Value| scenario.get(key).cloned().unwrap_or_else(default);
    let or_none = |key: &str| given(key, || Value::None);
    let empty_dict = || Value::Dict(Arc::default());
    let mut travel = TravelApi {
        random: Random::from_value(&given("random_seed", || Value::int(DEFAULT_SEED)))?,
        credit_card_list: given("credit_card_list", empty_dict),
        booking_record: given("booking_record", empty_dict),
        access_token: or_none("access_token"),
        token_type: or_none("token_type"),
        token_expires_in: or_none("token_expires_in"),
        token_scope: or_none("token_scope"),
        user_first_name: or_none("user_first_name"),
        user_last_name: or_none("user_last_name"),
        budget_limit: or_none("budget_limit"),
        long_context: context.long_context.is_some(),
        today: context.today,
    };
    if let Some(extra) = &context.long_context {
        add_missing(&mut travel.credit_card_list, extra.constant("CREDIT_CARD_EXTENSION"))?;
        add_missing(&mut travel.booking_record, extra.constant("BOOKING_RECORD_EXTENSION"))?;
    }
    Ok(Box::new(travel))
}

/// Adds the entries whose keys are not there yet.
fn add_missing(target: &mut Value, more: &Value) -> Result<()> {
    for (key, value) in ops::dict_for(more, "items")?.iter() {
        if !ops::contains(target, key)? {
            ops::set_item(target, key.clone(), value.clone())?;
        }
    }
    Ok(())
}

impl ApiClass for TravelApi {
    fn class_name(&self) -> &'static str {
        "TravelAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        METHODS
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> Result<Value> {
        match (method, arguments) {
            ("authenticate_travel", [_, _, _, grant_type, first_name, last_name]) => {
                Ok(self.authenticate_travel(grant_type, first_name, last_name))
            }
            ("travel_get_login_status", []) => Ok(self.travel_get_login_status()),
            ("get_budget_fiscal_year", [_, _]) => Ok(Value::dict([("budget_fiscal_year", Value::str("2018"))])),
            ("register_credit_card", [access_token, number, expiration_date, name, verification_number]) => {
                self.register_credit_card(access_token, number, expiration_date, name, verification_number)
            }
            ("get_flight_cost", [from, to, date, class]) => self.get_flight_cost(from, to, date, class),
            ("get_credit_card_balance", [access_token, card_id]) => self.get_credit_card_balance(access_token, card_id),
            ("book_flight", [access_token, card_id, date, from, to, class]) => {
                self.book_flight(access_token, card_id, &Flight { date, from, to, class })
            }
            ("retrieve_invoice", [access_token, booking_id, _]) => self.retrieve_invoice(access_token, booking_id),
            ("get_booking_history", [access_token]) => Ok(self.get_booking_history(access_token)),
            ("list_all_airports", []) => Ok(Value::list(AIRPORTS.iter().map(Value::str))),
            ("cancel_booking", [access_token, booking_id]) => self.cancel_booking(access_token, booking_id),
            ("compute_exchange_rate", [base, target, value]) => compute_exchange_rate(base, target, value),
            ("verify_traveler_information", [first_name, last_name, date_of_birth, passport_number]) => {
                self.verify_traveler_information(first_name, last_name, date_of_birth, passport_number)
            }
            ("set_budget_limit", [access_token, budget_limit]) => self.set_budget_limit(access_token, budget_limit),
            ("get_nearest_airport_by_city", [location]) => get_nearest_airport_by_city(location),
            ("purchase_insurance", [access_token, _, booking_id, insurance_cost, card_id]) => {
                self.purchase_insurance(access_token, booking_id, insurance_cost, card_id)
            }
            ("contact_customer_support", [booking_id, _]) => self.contact_customer_support(booking_id),
            ("get_all_credit_cards", []) => Ok(Value::dict([("credit_card_list", self.credit_card_list.clone())])),
            _ => unreachable!("TravelAPI.{method} with {} arguments is not in its signatures", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("credit_card_list", self.credit_card_list.clone()),
            ("booking_record", self.booking_record.clone()),
            ("access_token", self.access_token.clone()),
            ("token_type", self.token_type.clone()),
            ("token_expires_in", self.token_expires_in.clone()),
            ("token_scope", self.token_scope.clone()),
            ("user_first_name", self.user_first_name.clone()),
            ("user_last_name", self.user_last_name.clone()),
            ("budget_limit", self.budget_limit.clone()),
            ("long_context", self.long_context.into()),
        ]
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

/// What a booking asks for.
struct Flight<'a> {
    date: &'a Value,
    from: &'a Value,
    to: &'a Value,
    class: &'a Value,
}

/// The base price of a route. The pair is a dict key in the original, so it must be hashable.
fn base_price(from: &Value, to: &Value) -> Result<u32> {
    from.check_hashable()?;
    to.check_hashable()?;
    let (from, to) = (from.as_str(), to.as_str());
    let routes = ROUTES.iter().filter(|(origin, _)| from == Some(origin)).flat_map(|(_, routes)| routes.iter());
    routes
        .filter(|(destination, _)| to == Some(destination))
        .map(|(_, price)| *price)
        .next()
        .ok_or_else(|| Exception::value_error("No available route for the given airports."))
}

fn class_factor(class: &Value) -> Result<u32> {
    let known = CLASSES.iter().find(|(name, _)| class.as_str() == Some(name));
    known
        .map(|(_, factor)| *factor)
        .ok_or_else(|| Exception::value_error("Invalid travel class. Options are: economy, business, first."))
}

/// Flights cost twice as much on dates whose digits have an even sum. Anything iterable may be the date.
fn date_factor(date: &Value) -> Result<u32> {
    let mut odd = false;
    if let Some(text) = date.as_str().filter(|text| text.is_ascii()) {
        let digits = text.bytes().filter(u8::is_ascii_digit).filter(|digit| digit % 2 == 1);
        return Ok(if digits.count() % 2 == 1 { 1 } else { 2 });
    }
    for part in ops::iterate(date)? {
        if number::is_digit(ops::text_for(&part, "isdigit")?) {
            odd ^= number::int(&part)?.bit(0);
        }
    }
    Ok(if odd { 1 } else { 2 })
}

fn compute_exchange_rate(base: &Value, target: &Value, value: &Value) -> Result<Value> {
    for (currency, rate) in EXCHANGE_RATES {
        let rate = Value::from(*rate);
        let is = |given: &Value, name: &str| given.as_str() == Some(name);
        let exchanged = if is(base, "USD") && is(target, currency) {
            Value::Float(number::float(&ops::mul(value, &rate)?)?)
        } else if is(base, currency) && is(target, "USD") {
            number::round_half_even(&ops::truediv(value, &rate)?, Some(2))?
        } else {
            continue;
        };
        return Ok(Value::dict([("exchanged_value", exchanged)]));
    }
    Err(Exception::value_error("No available exchange rate for the given currencies."))
}

fn get_nearest_airport_by_city(location: &Value) -> Result<Value> {
    location.check_hashable()?;
    let known = NEAREST_AIRPORTS.iter().find(|(city, _)| location.as_str() == Some(city));
    Ok(Value::dict([("nearest_airport", Value::str(known.map_or("Unknown", |(_, airport)| airport)))]))
}

/// `{status: False, "error": message}`
fn failed(status: &str, message: impl AsRef<str>) -> Value {
    Value::dict([(status, Value::Bool(false)), ("error", Value::str(message))])
}

impl TravelApi {
    fn token_expired(&self) -> bool {
        self.token_expires_in == Value::int(0)
    }

    /// Why a token does not open the session, if it does not.
    fn token_refusal(&self, access_token: &Value) -> Option<&'static str> {
        if self.token_expired() {
            Some("Token expired")
        } else if *access_token != self.access_token {
            Some("Invalid access token")
        } else {
            None
        }
    }

    fn balance_mut(&mut self, card_id: &Value) -> Result<&mut Value> {
        ops::item_mut(ops::item_mut(&mut self.credit_card_list, card_id)?, &Value::str("balance"))
    }

    fn authenticate_travel(&mut self, grant_type: &Value, first_name: &Value, last_name: &Value) -> Value {
        self.token_expires_in = Value::int(2);
        self.access_token = Value::from(self.random.randint(100_000, 999_999).to_string());
        self.token_type = Value::str("Bearer");
        self.token_scope = grant_type.clone();
        self.user_first_name = first_name.clone();
        self.user_last_name = last_name.clone();
        Value::dict([
            ("expires_in", Value::int(2)),
            ("access_token", self.access_token.clone()),
            ("token_type", Value::str("Bearer")),
            ("scope", grant_type.clone()),
        ])
    }

    fn travel_get_login_status(&self) -> Value {
        let logged_in = !self.token_expires_in.is_none() && !self.token_expired();
        Value::dict([("status", Value::Bool(logged_in))])
    }

    fn register_credit_card(
        &mut self,
        access_token: &Value,
        card_number: &Value,
        expiration_date: &Value,
        cardholder_name: &Value,
        card_verification_number: &Value,
    ) -> Result<Value> {
        if self.token_expires_in.is_none() {
            return Ok(Value::error("Token not initialized"));
        }
        if let Some(refusal) = self.token_refusal(access_token) {
            return Ok(Value::error(refusal));
        }
        // The list is keyed by card id, so a number is found only where it is also an id.
        if ops::contains(&self.credit_card_list, card_number)? {
            return Ok(Value::error("Card already registered"));
        }
        let card_id = Value::from(self.random.randint(100_000_000_000, 999_999_999_999).to_string());
        let card = Value::dict([
            ("card_number", card_number.clone()),
            ("expiration_date", expiration_date.clone()),
            ("cardholder_name", cardholder_name.clone()),
            ("card_verification_number", card_verification_number.clone()),
            ("balance", Value::int(self.random.randint(10_000, 99_999))),
        ]);
        ops::set_item(&mut self.credit_card_list, card_id.clone(), card)?;
        Ok(Value::dict([("card_id", card_id)]))
    }

    fn get_flight_cost(&self, from: &Value, to: &Value, date: &Value, class: &Value) -> Result<Value> {
        let base = base_price(from, to)?;
        let factor = class_factor(class)? * date_factor(date)?;
        let cost = |price: u32| Value::Float(f64::from(price * factor));
        let costs = if self.long_context {
            Value::list(ROUTES.iter().flat_map(|(_, routes)| routes.iter()).map(|(_, price)| cost(*price)))
        } else {
            Value::list([cost(base)])
        };
        Ok(Value::dict([("travel_cost_list", costs)]))
    }

    fn get_credit_card_balance(&self, access_token: &Value, card_id: &Value) -> Result<Value> {
        if let Some(refusal) = self.token_refusal(access_token) {
            return Ok(Value::error(refusal));
        }
        if !ops::contains(&self.credit_card_list, card_id)? {
            let known = Value::list(ops::dict_for(&self.credit_card_list, "keys")?.keys().cloned());
            return Ok(Value::error(format!(
                "Card not registered. Here are a list of card_id's: {}",
                text::repr(&known)
            )));
        }
        let balance = ops::get_key(&ops::get_item(&self.credit_card_list, card_id)?, "balance")?;
        Ok(Value::dict([("card_balance", balance)]))
    }

    fn book_flight(&mut self, access_token: &Value, card_id: &Value, flight: &Flight<'_>) -> Result<Value> {
        let refuse = |message: &str| Ok(failed("booking_status", message));
        if let Some(refusal) = self.token_refusal(access_token) {
            return refuse(refusal);
        }
        if !ops::contains(&self.credit_card_list, card_id)? {
            return refuse("Card not registered");
        }
        if !ops::contains(&ops::get_item(&self.credit_card_list, card_id)?, &Value::str("balance"))? {
            return refuse("Balance not found");
        }
        let is_airport = |code: &Value| code.as_str().is_some_and(|code| AIRPORTS.contains(&code));
        if !is_airport(flight.from) {
            return refuse(&format!("Invalid departure airport code: {}", text::str(flight.from)));
        }
        if !is_airport(flight.to) {
            return refuse(&format!("Invalid destination airport code: {}", text::str(flight.to)));
        }
        match DateTime::strptime(flight.date, DATE) {
            Err(exception) if exception.kind == ExceptionKind::Value => {
                return refuse("Invalid date format. Use YYYY-MM-DD.");
            }
            other => other?,
        };
        flight.class.check_hashable()?;
        let Ok(class_factor) = class_factor(flight.class) else {
            // The original shows a set, whose order changes from process to process.
            return refuse("Invalid travel class. Must be one of {'economy', 'business', 'first'}");
        };
        let base = match base_price(flight.from, flight.to) {
            Err(exception) if exception.kind == ExceptionKind::Value => return refuse(&exception.message),
            other => other?,
        };
        let cost = Value::Float(f64::from(base * class_factor * date_factor(flight.date)?));

        let balance = ops::get_key(&ops::get_item(&self.credit_card_list, card_id)?, "balance")?;
        if ops::lt(&balance, &cost)? {
            return refuse("Insufficient funds");
        }
        if !self.budget_limit.is_none() && ops::lt(&balance, &self.budget_limit)? {
            return refuse("Balance is less than budget limit");
        }
        ops::sub_assign(self.balance_mut(card_id)?, &cost)?;
        let booking_id = Value::from(self.random.randint(1_000_000, 9_999_999).to_string());
        let transaction_id = Value::from(self.random.randint(10_000_000, 99_999_999).to_string());
        let booking = Value::dict([
            ("card_id", card_id.clone()),
            ("travel_date", flight.date.clone()),
            ("travel_from", flight.from.clone()),
            ("travel_to", flight.to.clone()),
            ("travel_class", flight.class.clone()),
            ("travel_cost", cost),
            ("transaction_id", transaction_id.clone()),
        ]);
        ops::set_item(&mut self.booking_record, booking_id.clone(), booking)?;
        let history = if self.long_context { self.booking_record.clone() } else { Value::Dict(Arc::default()) };
        Ok(Value::dict([
            ("booking_id", booking_id),
            ("transaction_id", transaction_id),
            ("booking_status", Value::Bool(true)),
            ("booking_history", history),
        ]))
    }

    fn retrieve_invoice(&self, access_token: &Value, booking_id: &Value) -> Result<Value> {
        const FIELDS: [&str; 6] =
            ["travel_date", "travel_from", "travel_to", "travel_class", "travel_cost", "transaction_id"];
        if let Some(refusal) = self.token_refusal(access_token) {
            return Ok(Value::error(refusal));
        }
        if !ops::contains(&self.booking_record, booking_id)? {
            return Ok(Value::error("Booking not found"));
        }
        let booking = ops::get_item(&self.booking_record, booking_id)?;
        let mut invoice = Dict::new();
        invoice.set("booking_id", booking_id.clone());
        for field in FIELDS {
            invoice.set(field, ops::get_key(&booking, field)?);
        }
        Ok(Value::dict([("invoice", Value::Dict(Arc::new(invoice)))]))
    }

    fn get_booking_history(&self, access_token: &Value) -> Value {
        if let Some(refusal) = self.token_refusal(access_token) {
            return Value::error(refusal);
        }
        Value::dict([("booking_history", self.booking_record.clone())])
    }

    fn cancel_booking(&mut self, access_token: &Value, booking_id: &Value) -> Result<Value> {
        let refuse = |message: &str| Ok(failed("cancel_status", message));
        if let Some(refusal) = self.token_refusal(access_token) {
            return refuse(refusal);
        }
        if !ops::contains(&self.booking_record, booking_id)? {
            return refuse("Booking not found");
        }
        let booking = ops::get_item(&self.booking_record, booking_id)?;
        let card_id = ops::get_key(&booking, "card_id")?;
        let cost = ops::get_key(&booking, "travel_cost")?;
        ops::add_assign(self.balance_mut(&card_id)?, &cost)?;
        if let Some(bookings) = self.booking_record.as_dict_mut() {
            bookings.remove(booking_id);
        }
        Ok(Value::dict([("cancel_status", Value::Bool(true))]))
    }

    fn verify_traveler_information(
        &self,
        first_name: &Value,
        last_name: &Value,
        date_of_birth: &Value,
        passport_number: &Value,
    ) -> Result<Value> {
        let refuse = |reason: &str| {
            Ok(Value::dict([("verification_status", Value::Bool(false)), ("verification_failure", Value::str(reason))]))
        };
        if self.user_first_name != *first_name || self.user_last_name != *last_name {
            return refuse(&format!(
                "Cannot book flight information for another user.Expected {} {}, got {} {}",
                text::str(&self.user_first_name),
                text::str(&self.user_last_name),
                text::str(first_name),
                text::str(last_name)
            ));
        }
        let birth = match DateTime::strptime(date_of_birth, DATE) {
            Err(exception) if exception.kind == ExceptionKind::Value => {
                return refuse("Invalid date of birth format. Please use YYYY-MM-DD.");
            }
            other => other?,
        };
        let (year, month, day) = self.today;
        let birthday_to_come = (month, day) < (birth.month, birth.day);
        if year - birth.year - i32::from(birthday_to_come) < 18 {
            return refuse("Traveler must be at least 18 years old.");
        }
        if !ops::text_for(passport_number, "startswith")?.starts_with("US") {
            return refuse("Passport must be issued by the United States.");
        }
        Ok(Value::dict([("verification_status", Value::Bool(true))]))
    }

    fn set_budget_limit(&mut self, access_token: &Value, budget_limit: &Value) -> Result<Value> {
        if let Some(refusal) = self.token_refusal(access_token) {
            return Ok(Value::error(refusal));
        }
        self.budget_limit = Value::Float(number::float(budget_limit)?);
        Ok(Value::dict([("budget_limit", self.budget_limit.clone())]))
    }

    fn purchase_insurance(
        &mut self,
        access_token: &Value,
        booking_id: &Value,
        insurance_cost: &Value,
        card_id: &Value,
    ) -> Result<Value> {
        let refuse = |message: &str| Ok(failed("insurance_status", message));
        if let Some(refusal) = self.token_refusal(access_token) {
            return refuse(refusal);
        }
        if !self.budget_limit.is_none() && ops::lt(&self.budget_limit, insurance_cost)? {
            return refuse("Exceeded budget limit");
        }
        if !ops::contains(&self.booking_record, booking_id)? {
            return refuse("Booking not found");
        }
        if !ops::contains(&self.credit_card_list, card_id)? {
            return refuse("Credit card not registered");
        }
        ops::sub_assign(self.balance_mut(card_id)?, insurance_cost)?;
        let insurance_id = self.random.randint(100_000_000, 999_999_999).to_string();
        Ok(Value::dict([("insurance_id", Value::from(insurance_id)), ("insurance_status", Value::Bool(true))]))
    }

    fn contact_customer_support(&self, booking_id: &Value) -> Result<Value> {
        if !ops::contains(&self.booking_record, booking_id)? {
            return Ok(Value::error("Booking not found"));
        }
        Ok(Value::dict([(
            "customer_support_message",
            Value::str(
                "Thank you for contacting customer support. Your message has been received and we will get back to you \
                 shortly.",
            ),
        )]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn travel() -> Box<dyn ApiClass> {
        let card = |balance: f64| Value::dict([("balance", Value::Float(balance))]);
        let scenario = [
            ("access_token", Value::str("token")),
            ("token_expires_in", Value::int(3600)),
            ("user_first_name", Value::str("Ada")),
            ("credit_card_list", Value::dict([("rich", card(5000.0)), ("poor", card(100.0))])),
            ("booking_record", Value::dict([("old", Value::dict([("travel_cost", Value::int(5))]))])),
        ];
        let scenario = scenario.into_iter().map(|(key, value)| (Value::str(key), value)).collect();
        create(&scenario, &BfclContext { today: (2026, 3, 23), ..std::default::Default::default() }).unwrap()
    }

    fn call(travel: &mut dyn ApiClass, method: &str, arguments: &[Value]) -> String {
        match travel.invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    fn texts<const N: usize>(texts: [&str; N]) -> [Value; N] {
        texts.map(Value::str)
    }

    #[test]
    fn knows_all_routes() {
        assert_eq!(ROUTES.iter().map(|(_, routes)| routes.len()).sum::<usize>(), 153);
    }

    #[test]
    fn prices_depend_on_route_class_and_digits_of_the_date() {
        let mut travel = travel();
        let mut cost = |arguments: [&str; 4]| call(&mut *travel, "get_flight_cost", &texts(arguments));
        assert_eq!(cost(["SFO", "LAX", "2024-10-10", "first"]), r#"{"travel_cost_list": [2000.0]}"#);
        assert_eq!(cost(["SFO", "LAX", "2024-10-11", "first"]), r#"{"travel_cost_list": [1000.0]}"#);
        assert_eq!(cost(["SFO", "LHR", "", ""]), "Error during execution: No available route for the given airports.");
        assert_eq!(
            cost(["SFO", "LAX", "10²", "economy"]),
            "Error during execution: invalid literal for int() with base 10: '²'"
        );
    }

    /// Numbers from CPython 3.11.
    #[test]
    fn books_cancels_and_insures() {
        let mut travel = travel();
        let flight = |card: &str| texts(["token", card, "2024-10-11", "SFO", "LAX", "economy"]);
        assert_eq!(
            call(&mut *travel, "book_flight", &flight("poor")),
            r#"{"booking_status": false, "error": "Insufficient funds"}"#
        );
        assert_eq!(
            call(&mut *travel, "book_flight", &flight("rich")),
            r#"{"booking_id": "3426812", "transaction_id": "45451592", "booking_status": true, "booking_history": {}}"#
        );
        assert_eq!(
            call(&mut *travel, "get_credit_card_balance", &texts(["token", "rich"])),
            r#"{"card_balance": 4800.0}"#
        );
        let insurance = texts(["token", "medical", "3426812", "5", "rich"]);
        assert_eq!(
            call(&mut *travel, "purchase_insurance", &insurance),
            "Error during execution: unsupported operand type(s) for -=: 'float' and 'str'"
        );
        assert_eq!(call(&mut *travel, "cancel_booking", &texts(["token", "3426812"])), r#"{"cancel_status": true}"#);
        assert_eq!(
            call(&mut *travel, "get_credit_card_balance", &texts(["token", "rich"])),
            r#"{"card_balance": 5000.0}"#
        );
        // Bookings of scenarios may lack the card.
        assert_eq!(call(&mut *travel, "cancel_booking", &texts(["token", "old"])), "Error during execution: 'card_id'");
    }

    #[test]
    fn exchanges_forward_as_float_and_back_rounded() {
        let mut travel = travel();
        let mut exchange = |base: &str, target: &str, value: Value| {
            call(&mut *travel, "compute_exchange_rate", &[Value::str(base), Value::str(target), value])
        };
        assert_eq!(exchange("USD", "RMB", Value::int(5)), r#"{"exchanged_value": 35.0}"#);
        assert_eq!(exchange("RMB", "USD", Value::int(5)), r#"{"exchanged_value": 0.71}"#);
        assert_eq!(exchange("USD", "RMB", Value::str("1")), r#"{"exchanged_value": 1111111.0}"#);
        assert_eq!(
            exchange("USD", "EUR", Value::str("1")),
            "Error during execution: can't multiply sequence by non-int of type 'float'"
        );
        assert_eq!(
            exchange("RMB", "EUR", Value::int(5)),
            "Error during execution: No available exchange rate for the given currencies."
        );
    }

    #[test]
    fn travelers_come_of_age_on_their_birthday() {
        let mut travel = travel();
        let mut verify = |birth: &str| {
            let arguments = [Value::str("Ada"), Value::None, Value::str(birth), Value::str("US1")];
            call(&mut *travel, "verify_traveler_information", &arguments)
        };
        assert_eq!(verify("2008-03-23"), r#"{"verification_status": true}"#);
        assert!(verify("2008-03-24").contains("at least 18 years old"));
        assert!(verify("24.03.2000").contains("Invalid date of birth format"));
    }
}
