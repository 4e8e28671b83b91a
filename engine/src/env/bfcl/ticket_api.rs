//! `TicketAPI`: a queue of support tickets.

use std::sync::Arc;

use super::{ApiClass, BfclContext};
use crate::python::call::{method, optional, required};
use crate::python::{Default, Dict, Exception, Result, Signature, Value, ops, text};

static SIGNATURES: [Signature; 9] = [
    method(
        "create_ticket",
        &[required("title"), optional("description", Default::Str("")), optional("priority", Default::Int(1))],
    ),
    method("get_ticket", &[required("ticket_id")]),
    method("close_ticket", &[required("ticket_id")]),
    method("resolve_ticket", &[required("ticket_id"), required("resolution")]),
    method("edit_ticket", &[required("ticket_id"), required("updates")]),
    method("ticket_login", &[required("username"), required("password")]),
    method("ticket_get_login_status", &[]),
    method("logout", &[]),
    method("get_user_tickets", &[optional("status", Default::None)]),
];

/// The fields that `edit_ticket` may change.
const EDITABLE_FIELDS: [&str; 4] = ["title", "description", "status", "priority"];

/// The ticket system. Scenarios may give any attribute a value of any type.
#[derive(Clone, Debug)]
pub struct TicketApi {
    ticket_queue: Value,
    ticket_counter: Value,
    current_user: Value,
}

impl TicketApi {
    /// An instance in the scenario's state; what the scenario leaves out has the class's default.
    pub fn create(scenario: &Dict, _context: &BfclContext) -> Result<Box<dyn ApiClass>> {
        let value_or = |key: &str, default: Value| scenario.get(key).cloned().unwrap_or(default);
        Ok(Box::new(Self {
            ticket_queue: value_or("ticket_queue", Value::list([])),
            ticket_counter: value_or("ticket_counter", Value::int(1)),
            current_user: value_or("current_user", Value::None),
        }))
    }

    fn create_ticket(&mut self, title: &Value, description: &Value, priority: &Value) -> Result<Value> {
        if !self.current_user.truthy() {
            return Ok(Value::error("User not authenticated. Please log in to create a ticket."));
        }
        if ops::lt(priority, &Value::int(1))? || ops::gt(priority, &Value::int(5))? {
            return Ok(Value::error("Invalid priority. Priority must be between 1 and 5."));
        }
        let ticket = Value::dict([
            ("id", self.ticket_counter.clone()),
            ("title", title.clone()),
            ("description", description.clone()),
            ("status", Value::str("Open")),
            ("priority", priority.clone()),
            ("created_by", self.current_user.clone()),
        ]);
        ops::list_for(&mut self.ticket_queue, "append")?.push(ticket.clone());
        // A counter that takes no number leaves the ticket queued, as in the original.
        ops::add_assign(&mut self.ticket_counter, &Value::int(1))?;
        Ok(ticket)
    }

    /// The place of the first ticket with this id in the queue.
    fn find_ticket(&self, ticket_id: &Value) -> Result<Option<usize>> {
        for (position, ticket) in ops::iterate(&self.ticket_queue)?.iter().enumerate() {
            if ops::get_key(ticket, "id")? == *ticket_id {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// A ticket that [`TicketApi::find_ticket`] found. It had the key `"id"`, so it is a dict, and its queue is no dict or
    /// text, whose items cannot be dicts.
    fn ticket_mut(&mut self, position: usize) -> &mut Dict {
        match &mut self.ticket_queue {
            Value::List(tickets) | Value::Tuple(tickets) => Arc::make_mut(tickets)[position].as_dict_mut(),
            _ => None,
        }
        .expect("a found ticket is a dict in a list or tuple")
    }

    fn get_ticket(&mut self, ticket_id: &Value) -> Result<Value> {
        Ok(match self.find_ticket(ticket_id)? {
            Some(position) => Value::Dict(Arc::new(self.ticket_mut(position).clone())),
            None => not_found(ticket_id),
        })
    }

    /// Gives a ticket a final status, unless it has that status already.
    fn finish(&mut self, ticket_id: &Value, status: &str, resolution: Option<&Value>) -> Result<Value> {
        let Some(position) = self.find_ticket(ticket_id)? else {
            return Ok(not_found(ticket_id));
        };
        let ticket = self.ticket_mut(position);
        let number = text::str(ticket_id);
        let word = status.to_lowercase();
        let old_status = ticket.get("status").ok_or_else(|| Exception::key_error(&Value::str("status")))?;
        if old_status.as_str() == Some(status) {
            return Ok(Value::error(format!("Ticket with ID {number} is already {word}.")));
        }
        ticket.set("status", status);
        if let Some(resolution) = resolution {
            ticket.set("resolution", resolution.clone());
        }
        Ok(Value::dict([("status", Value::str(format!("Ticket {number} has been {word} successfully.")))]))
    }

    fn edit_ticket(&mut self, ticket_id: &Value, updates: &Value) -> Result<Value> {
        let Some(position) = self.find_ticket(ticket_id)? else {
            return Ok(not_found(ticket_id));
        };
        let updates = ops::dict_for(updates, "keys")?;
        let is_editable = |key: &Value| key.as_str().is_some_and(|key| EDITABLE_FIELDS.contains(&key));
        // The original keeps these in a set, so that its order differs from run to run; ours is the order written.
        let invalid: Vec<&Value> = updates.keys().filter(|key| !is_editable(key)).collect();
        if !invalid.is_empty() {
            let names = invalid.iter().enumerate().map(|(index, key)| {
                key.as_str().ok_or_else(|| {
                    Exception::type_error(format!(
                        "sequence item {index}: expected str instance, {} found",
                        key.type_name()
                    ))
                })
            });
            let names = names.collect::<Result<Vec<_>>>()?;
            return Ok(Value::error(format!("Invalid fields for update: {}", names.join(", "))));
        }
        let ticket = self.ticket_mut(position);
        for (key, value) in updates.iter().filter(|(_, value)| !value.is_none()) {
            ticket.set(key.clone(), value.clone());
        }
        let message = format!("Ticket {} has been updated successfully.", text::str(ticket_id));
        Ok(Value::dict([("status", Value::str(message))]))
    }

    fn ticket_login(&mut self, username: &Value, password: &Value) -> Value {
        let success = username.truthy() && password.truthy();
        if success {
            self.current_user = username.clone();
        }
        Value::dict([("success", success.into())])
    }

    fn logout(&mut self) -> Value {
        let success = self.current_user.truthy();
        if success {
            self.current_user = Value::None;
        }
        Value::dict([("success", success.into())])
    }

    fn get_user_tickets(&self, status: &Value) -> Result<Value> {
        if !self.current_user.truthy() {
            return Ok(Value::list([Value::error("User not authenticated. Please log in to view tickets.")]));
        }
        let mut own = Vec::new();
        for ticket in ops::iterate(&self.ticket_queue)? {
            if ops::get_key(&ticket, "created_by")? == self.current_user {
                own.push(ticket);
            }
        }
        if status.truthy() {
            let mut with_status = Vec::new();
            for ticket in own {
                let of_ticket = ops::get_key(&ticket, "status")?;
                if ops::text_for(&of_ticket, "lower")?.to_lowercase() == ops::text_for(status, "lower")?.to_lowercase()
                {
                    with_status.push(ticket);
                }
            }
            own = with_status;
        }
        Ok(Value::list(own))
    }
}

fn not_found(ticket_id: &Value) -> Value {
    Value::error(format!("Ticket with ID {} not found.", text::str(ticket_id)))
}

impl ApiClass for TicketApi {
    fn class_name(&self) -> &'static str {
        "TicketAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        &SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> Result<Value> {
        match (method, arguments) {
            ("create_ticket", [title, description, priority]) => self.create_ticket(title, description, priority),
            ("get_ticket", [ticket_id]) => self.get_ticket(ticket_id),
            ("close_ticket", [ticket_id]) => self.finish(ticket_id, "Closed", None),
            ("resolve_ticket", [ticket_id, resolution]) => self.finish(ticket_id, "Resolved", Some(resolution)),
            ("edit_ticket", [ticket_id, updates]) => self.edit_ticket(ticket_id, updates),
            ("ticket_login", [username, password]) => Ok(self.ticket_login(username, password)),
            ("ticket_get_login_status", []) => Ok(Value::dict([("login_status", self.current_user.truthy().into())])),
            ("logout", []) => Ok(self.logout()),
            ("get_user_tickets", [status]) => self.get_user_tickets(status),
            _ => unreachable!("TicketAPI.{method} was called with {} arguments", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("ticket_queue", self.ticket_queue.clone()),
            ("ticket_counter", self.ticket_counter.clone()),
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
        TicketApi::create(scenario.as_dict().unwrap(), &BfclContext::default()).unwrap()
    }

    fn answer(tickets: &mut dyn ApiClass, method: &str, arguments: &[Value]) -> String {
        match tickets.invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    #[test]
    fn a_ticket_lives() {
        let mut tickets = with_scenario(serde_json::json!({}));
        let create = |tickets: &mut dyn ApiClass| {
            answer(tickets, "create_ticket", &["Printer".into(), "".into(), Value::int(2)])
        };
        assert!(create(&mut *tickets).contains("not authenticated"));
        assert_eq!(answer(&mut *tickets, "ticket_login", &["ana".into(), "x".into()]), r#"{"success": true}"#);
        assert_eq!(
            create(&mut *tickets),
            r#"{"id": 1, "title": "Printer", "description": "", "status": "Open", "priority": 2, "created_by": "ana"}"#
        );
        assert_eq!(
            answer(&mut *tickets, "resolve_ticket", &[Value::Bool(true), "Done".into()]),
            r#"{"status": "Ticket True has been resolved successfully."}"#
        );
        assert_eq!(
            answer(&mut *tickets, "edit_ticket", &[Value::int(1), Value::dict([("owner", Value::None)])]),
            r#"{"error": "Invalid fields for update: owner"}"#
        );
        assert_eq!(
            answer(&mut *tickets, "get_user_tickets", &["RESOLVED".into()]),
            "[{'id': 1, 'title': 'Printer', 'description': '', 'status': 'Resolved', 'priority': 2, \
             'created_by': 'ana', 'resolution': 'Done'}]"
        );
    }

    #[test]
    fn incomplete_tickets_answer_in_pythons_words() {
        let mut tickets = with_scenario(serde_json::json!({"ticket_queue": [{"id": 1}], "current_user": "ana"}));
        assert_eq!(answer(&mut *tickets, "get_user_tickets", &[Value::None]), "Error during execution: 'created_by'");
        assert_eq!(answer(&mut *tickets, "close_ticket", &[Value::Float(1.0)]), "Error during execution: 'status'");
        assert_eq!(answer(&mut *tickets, "close_ticket", &["1".into()]), r#"{"error": "Ticket with ID 1 not found."}"#);
    }

    #[test]
    fn copies_live_apart() {
        let mut tickets = with_scenario(serde_json::json!({"ticket_queue": [{"id": 1, "status": "Open"}]}));
        let before = tickets.boxed_clone();
        assert!(tickets.same_state(&*before));
        answer(&mut *tickets, "close_ticket", &[Value::int(1)]);
        assert!(!tickets.same_state(&*before));
    }
}
