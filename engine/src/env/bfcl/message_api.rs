//! `MessageAPI`: users of a workspace and the messages between them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ApiClass, BfclContext};
use crate::python::call::{method, required};
use crate::python::{
    Dict, Exception, ExceptionKind, Opaque, PythonVersion, Random, Result, Signature, Value, ops, strings, text,
};

static SIGNATURES: [Signature; 10] = [
    method("list_users", &[]),
    method("get_user_id", &[required("user")]),
    method("message_login", &[required("user_id")]),
    method("message_get_login_status", &[]),
    method("send_message", &[required("receiver_id"), required("message")]),
    method("delete_message", &[required("receiver_id")]),
    method("view_messages_sent", &[]),
    method("add_contact", &[required("user_name")]),
    method("search_messages", &[required("keyword")]),
    method("get_message_stats", &[]),
];

const DEFAULT_SEED: i64 = 200_191;

/// The ids of the messages sent so far.
#[derive(Clone, Debug)]
enum GeneratedIds {
    /// The class's own Python `set`.
    Set(BTreeSet<i64>),
    /// What a scenario gave in its place; JSON has no sets, so it has no `add` and no message can be sent.
    Given(Value),
}

/// The message system. Scenarios may give any attribute a value of any type.
#[derive(Clone, Debug)]
pub struct MessageApi {
    random: Random,
    generated_ids: GeneratedIds,
    user_count: Value,
    user_map: Value,
    /// One dict `{receiver id: message}` for each message.
    inbox: Value,
    message_count: Value,
    current_user: Value,
    python: PythonVersion,
}

impl MessageApi {
    /// An instance in the scenario's state; what the scenario leaves out has the class's default.
    pub fn create(scenario: &Dict, context: &BfclContext) -> Result<Box<dyn ApiClass>> {
        let value_or = |key: &str, default: fn() -> Value| scenario.get(key).cloned().unwrap_or_else(default);
        Ok(Box::new(Self {
            random: Random::from_value(&value_or("random_seed", || Value::int(DEFAULT_SEED)))?,
            generated_ids: match scenario.get("generated_ids") {
                Some(given) => GeneratedIds::Given(given.clone()),
                None => GeneratedIds::Set(BTreeSet::new()),
            },
            user_count: value_or("user_count", || Value::int(4)),
            user_map: value_or("user_map", || {
                Value::dict([
                    ("Alice", "USR001".into()),
                    ("Bob", "USR002".into()),
                    ("Catherine", "USR003".into()),
                    ("Daniel", "USR004".into()),
                ])
            }),
            inbox: value_or("inbox", || {
                Value::list([
                    Value::dict([("USR002", "My name is Alice. I want to connect.".into())]),
                    Value::dict([("USR003", "Could you upload the file?".into())]),
                    Value::dict([("USR004", "Could you upload the file?".into())]),
                ])
            }),
            message_count: value_or("message_count", || Value::int(3)),
            current_user: value_or("current_user", || Value::None),
            python: context.python,
        }))
    }

    /// Draws an id that no message has.
    fn generate_id(&mut self) -> Result<i64> {
        loop {
            let id = self.random.randint(10_000, 99_999);
            match &mut self.generated_ids {
                GeneratedIds::Set(ids) => {
                    if ids.insert(id) {
                        return Ok(id);
                    }
                }
                GeneratedIds::Given(given) => {
                    if !ops::contains(given, &Value::int(id))? {
                        return Err(Exception::no_attribute(given, "add"));
                    }
                }
            }
        }
    }

    /// `self.user_map.values()`
    fn has_user_id(&self, user_id: &Value) -> Result<bool> {
        Ok(ops::dict_for(&self.user_map, "values")?.values().any(|id| id == user_id))
    }

    fn list_users(&self) -> Result<Value> {
        let users = ops::dict_for(&self.user_map, "keys")?.keys().cloned();
        Ok(Value::dict([("user_list", Value::list(users))]))
    }

    fn get_user_id(&self, user: &Value) -> Result<Value> {
        if !ops::contains(&self.user_map, user)? {
            return Ok(Value::error(format!("User '{}' not found in the workspace.", text::str(user))));
        }
        let id = ops::dict_for(&self.user_map, "get")?.get_value(user).cloned();
        Ok(Value::dict([("user_id", id.unwrap_or_default())]))
    }

    fn message_login(&mut self, user_id: &Value) -> Result<Value> {
        let found = self.has_user_id(user_id)?;
        let shown = text::str(user_id);
        let message = if found {
            self.current_user = user_id.clone();
            format!("User '{shown}' logged in successfully.")
        } else {
            format!("User ID '{shown}' not found.")
        };
        Ok(Value::dict([("login_status", found.into()), ("message", message.into())]))
    }

    fn send_message(&mut self, receiver_id: &Value, message: &Value) -> Result<Value> {
        if let Some(refusal) = self.refuse_without_user() {
            return Ok(refusal);
        }
        let shown = text::str(receiver_id);
        if !self.has_user_id(receiver_id)? {
            return Ok(Value::error(format!("Receiver ID '{shown}' not found.")));
        }
        let id = self.generate_id()?;
        let inbox = ops::list_for(&mut self.inbox, "append")?;
        receiver_id.check_hashable()?;
        inbox.push(Value::Dict(Arc::new(Dict::from_iter([(receiver_id.clone(), message.clone())]))));
        ops::add_assign(&mut self.message_count, &Value::int(1))?;
        Ok(Value::dict([
            ("sent_status", true.into()),
            ("message_id", Value::dict([("new_id", id.into())])),
            ("message", format!("Message sent to '{shown}' successfully.").into()),
        ]))
    }

    /// Looks for the receiver's latest message but removes the first that equals it, as the original does.
    fn delete_message(&mut self, receiver_id: &Value) -> Result<Value> {
        if let Some(refusal) = self.refuse_without_user() {
            return Ok(refusal);
        }
        let shown = text::str(receiver_id);
        for message in self.messages_backwards()? {
            let (receiver, _) = first_entry(&message)?;
            if receiver == *receiver_id {
                let inbox = ops::list_for(&mut self.inbox, "remove")?;
                let position = inbox.iter().position(|other| *other == message);
                inbox.remove(position.expect("the message was just read from the inbox"));
                return Ok(Value::dict([
                    ("deleted_status", true.into()),
                    ("receiver_id", receiver),
                    ("message", format!("Receiver {shown}'s latest message deleted successfully.").into()),
                ]));
            }
        }
        Ok(Value::error(format!("Receiver ID {shown} not found.")))
    }

    /// `self.inbox[::-1]`
    fn messages_backwards(&self) -> Result<Vec<Value>> {
        match &self.inbox {
            Value::List(_) | Value::Tuple(_) | Value::Str(_) => {
                let mut messages = ops::iterate(&self.inbox)?;
                messages.reverse();
                Ok(messages)
            }
            // From Python 3.12 on a slice is hashable, and merely not a key of the dict.
            Value::Dict(_) => Err(match self.python {
                PythonVersion::V3_11 => Exception::type_error("unhashable type: 'slice'"),
                PythonVersion::V3_12 => Exception::new(ExceptionKind::Key, "slice(None, None, -1)"),
            }),
            other => Err(Exception::type_error(format!("'{}' object is not subscriptable", other.type_name()))),
        }
    }

    /// Receiver and text of every message, in order, until one has none: then the exception that Python would raise.
    fn messages(&self) -> Result<impl Iterator<Item = Result<(Value, Value)>>> {
        Ok(ops::iterate(&self.inbox)?.into_iter().map(|message| first_entry(&message)))
    }

    fn view_messages_sent(&self) -> Result<Value> {
        if let Some(refusal) = self.refuse_without_user() {
            return Ok(refusal);
        }
        let mut sent = Dict::new();
        for message in self.messages()? {
            let (receiver, content) = message?;
            match sent.get_value_mut(&receiver).and_then(Value::as_list_mut) {
                Some(contents) => contents.push(content),
                None => sent.set(receiver, Value::list([content])),
            }
        }
        Ok(Value::dict([("messages", Value::Dict(Arc::new(sent)))]))
    }

    /// Counts the user even where the id turns out to be taken, as the original does.
    fn add_contact(&mut self, user_name: &Value) -> Result<Value> {
        let shown = text::str(user_name);
        if ops::contains(&self.user_map, user_name)? {
            return Ok(Value::error(format!("User name '{shown}' already exists.")));
        }
        ops::add_assign(&mut self.user_count, &Value::int(1))?;
        let user_id = format!("USR{}", strings::zfill(&text::str(&self.user_count), 3));
        let id = Value::str(&user_id);
        if self.has_user_id(&id)? {
            return Ok(Value::error(format!("User ID '{user_id}' already exists.")));
        }
        ops::set_item(&mut self.user_map, user_name.clone(), id.clone())?;
        Ok(Value::dict([
            ("added_status", true.into()),
            ("user_id", id),
            ("message", format!("Contact '{shown}' added successfully.").into()),
        ]))
    }

    fn search_messages(&self, keyword: &Value) -> Result<Value> {
        if let Some(refusal) = self.refuse_without_user() {
            return Ok(refusal);
        }
        let keyword = ops::text_for(keyword, "lower")?.to_lowercase();
        let mut results = Vec::new();
        for message in self.messages()? {
            let (receiver, content) = message?;
            if ops::text_for(&content, "lower")?.to_lowercase().contains(&keyword) {
                results.push(Value::dict([("receiver_id", receiver), ("message", content)]));
            }
        }
        Ok(Value::dict([("results", Value::list(results))]))
    }

    fn get_message_stats(&self) -> Result<Value> {
        if let Some(refusal) = self.refuse_without_user() {
            return Ok(refusal);
        }
        let mut received_count = 0_i64;
        let mut contacts = Dict::new();
        for message in self.messages()? {
            received_count += 1;
            contacts.set(message?.0, Value::None);
        }
        let stats =
            Value::dict([("received_count", received_count.into()), ("total_contacts", Value::int(contacts.len()))]);
        Ok(Value::dict([("stats", stats)]))
    }

    fn refuse_without_user(&self) -> Option<Value> {
        (!self.current_user.truthy()).then(|| Value::error("No user is currently logged in."))
    }
}

/// `list(message.items())[0]`
fn first_entry(message: &Value) -> Result<(Value, Value)> {
    let (receiver, content) = ops::dict_for(message, "items")?
        .iter()
        .next()
        .ok_or_else(|| Exception::new(ExceptionKind::Index, "list index out of range"))?;
    Ok((receiver.clone(), content.clone()))
}

impl ApiClass for MessageApi {
    fn class_name(&self) -> &'static str {
        "MessageAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        &SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> Result<Value> {
        match (method, arguments) {
            ("list_users", []) => self.list_users(),
            ("get_user_id", [user]) => self.get_user_id(user),
            ("message_login", [user_id]) => self.message_login(user_id),
            ("message_get_login_status", []) => Ok(Value::dict([("login_status", self.current_user.truthy().into())])),
            ("send_message", [receiver_id, message]) => self.send_message(receiver_id, message),
            ("delete_message", [receiver_id]) => self.delete_message(receiver_id),
            ("view_messages_sent", []) => self.view_messages_sent(),
            ("add_contact", [user_name]) => self.add_contact(user_name),
            ("search_messages", [keyword]) => self.search_messages(keyword),
            ("get_message_stats", []) => self.get_message_stats(),
            _ => unreachable!("MessageAPI.{method} was called with {} arguments", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        let generated_ids = match &self.generated_ids {
            GeneratedIds::Given(given) => given.clone(),
            // A set equals only a set, whatever the order: shown sorted, equal sets are equal texts.
            GeneratedIds::Set(ids) => Value::Opaque(Arc::new(Opaque {
                type_name: "set",
                repr: if ids.is_empty() {
                    "set()".into()
                } else {
                    format!("{{{}}}", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
                },
            })),
        };
        vec![
            ("generated_ids", generated_ids),
            ("user_count", self.user_count.clone()),
            ("user_map", self.user_map.clone()),
            ("inbox", self.inbox.clone()),
            ("message_count", self.message_count.clone()),
            ("current_user", self.current_user.clone()),
        ]
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_scenario(scenario: serde_json::Value) -> Box<dyn ApiClass> {
        let scenario = Value::from_json(&scenario);
        MessageApi::create(scenario.as_dict().unwrap(), &BfclContext::default()).unwrap()
    }

    fn answer(messages: &mut dyn ApiClass, method: &str, arguments: &[Value]) -> String {
        match messages.invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    #[test]
    fn ids_are_drawn_as_in_python() {
        let mut messages = with_scenario(serde_json::json!({}));
        let send = |messages: &mut dyn ApiClass| answer(messages, "send_message", &["USR002".into(), "Hi".into()]);
        assert_eq!(send(&mut *messages), r#"{"error": "No user is currently logged in."}"#);
        answer(&mut *messages, "message_login", &["USR001".into()]);
        for id in [67_410, 41_772, 24_547] {
            let expected = format!(
                r#"{{"sent_status": true, "message_id": {{"new_id": {id}}}, "message": "Message sent to 'USR002' successfully."}}"#
            );
            assert_eq!(send(&mut *messages), expected);
        }
        assert_eq!(text::repr(messages.state().get("generated_ids").unwrap()), "{24547, 41772, 67410}");
    }

    #[test]
    fn deletion_removes_the_first_equal_message() {
        let mut messages = with_scenario(serde_json::json!({
            "current_user": "USR001", "inbox": [{"USR002": "a"}, {"USR003": "b"}, {"USR002": "a"}],
        }));
        answer(&mut *messages, "delete_message", &["USR002".into()]);
        assert_eq!(text::repr(messages.state().get("inbox").unwrap()), "[{'USR003': 'b'}, {'USR002': 'a'}]");
    }

    #[test]
    fn a_taken_id_counts() {
        let mut messages = with_scenario(serde_json::json!({"user_count": 2}));
        assert_eq!(
            answer(&mut *messages, "add_contact", &["Eve".into()]),
            r#"{"error": "User ID 'USR003' already exists."}"#
        );
        assert_eq!(messages.state().get("user_count"), Some(&Value::int(3)));
        assert_eq!(
            answer(&mut *messages, "add_contact", &[Value::list([])]),
            "Error during execution: unhashable type: 'list'"
        );
    }

    #[test]
    fn a_list_of_ids_takes_none() {
        let mut messages = with_scenario(serde_json::json!({"generated_ids": [], "current_user": "USR001"}));
        assert_eq!(
            answer(&mut *messages, "send_message", &["USR002".into(), "Hi".into()]),
            "Error during execution: 'list' object has no attribute 'add'"
        );
        assert!(!messages.same_state(&*with_scenario(serde_json::json!({"current_user": "USR001"}))));
    }
}
