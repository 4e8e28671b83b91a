//! What changed between two states, as a reader wants to see it: one line per changed place, not a whole new state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One place in a state that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateChange {
    /// Object keys and list indexes from the root, such as `["TradingBot", "orders", "12446", "status"]`.
    pub path: Vec<String>,
    /// The value before; `None` if the place is new.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    pub before: Option<Json>,
    /// The value after; `None` if the place is gone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    pub after: Option<Json>,
}

/// Keeps a JSON `null` apart from an absent field.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// The changes that lead from `before` to `after`, in the order of `after` (removals where they stood in `before`).
///
/// Objects are compared key by key. Lists are compared by their common head and tail, so that one inserted item is one
/// change. The result is empty exactly if both are equal (object key order aside).
pub fn diff(before: &Json, after: &Json) -> Vec<StateChange> {
    let mut changes = Vec::new();
    diff_into(&mut changes, &mut Vec::new(), before, after);
    changes
}

fn diff_into(changes: &mut Vec<StateChange>, path: &mut Vec<String>, before: &Json, after: &Json) {
    let mut record = |path: &[String], before: Option<&Json>, after: Option<&Json>| {
        changes.push(StateChange { path: path.to_vec(), before: before.cloned(), after: after.cloned() });
    };
    match (before, after) {
        (Json::Object(old), Json::Object(new)) => {
            for (key, value) in old {
                if !new.contains_key(key) {
                    path.push(key.clone());
                    record(path, Some(value), None);
                    path.pop();
                }
            }
            for (key, value) in new {
                path.push(key.clone());
                match old.get(key) {
                    Some(previous) => diff_into(changes, path, previous, value),
                    None => changes.push(StateChange { path: path.clone(), before: None, after: Some(value.clone()) }),
                }
                path.pop();
            }
        }
        (Json::Array(old), Json::Array(new)) => {
            let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
            let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
            let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
            for index in 0..old.len().max(new.len()) {
                path.push((head + index).to_string());
                match (old.get(index), new.get(index)) {
                    (Some(a), Some(b)) => diff_into(changes, path, a, b),
                    (a, b) => {
                        changes.push(StateChange { path: path.clone(), before: a.cloned(), after: b.cloned() });
                    }
                }
                path.pop();
            }
        }
        (a, b) if a != b => record(path, Some(a), Some(b)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(before: Json, after: Json) -> Vec<String> {
        let show = |value: Option<Json>| value.map_or("-".into(), |value| value.to_string());
        diff(&before, &after)
            .into_iter()
            .map(|change| format!("{}: {} -> {}", change.path.join("/"), show(change.before), show(change.after)))
            .collect()
    }

    #[test]
    fn names_each_changed_place_once() {
        assert_eq!(
            lines(json!({"a": {"b": 1, "c": 2}, "gone": null}), json!({"a": {"b": 1, "c": 3}, "new": [1]})),
            ["gone: null -> -", "a/c: 2 -> 3", "new: - -> [1]"]
        );
    }

    #[test]
    fn an_inserted_list_item_is_one_change() {
        assert_eq!(lines(json!([1, 2, 3]), json!([1, 9, 2, 3])), ["1: - -> 9"]);
        assert_eq!(lines(json!([1, 2, 3]), json!([2, 3])), ["0: 1 -> -"]);
        assert_eq!(lines(json!([{"a": 1}, 5]), json!([{"a": 2}, 5])), ["0/a: 1 -> 2"]);
    }

    #[test]
    fn null_and_absent_survive_a_round_trip() {
        let change = StateChange { path: vec!["x".into()], before: Some(Json::Null), after: None };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"path":["x"],"before":null}"#);
        assert_eq!(serde_json::from_str::<StateChange>(&text).unwrap(), change);
    }

    #[test]
    fn equal_states_have_no_changes() {
        assert!(diff(&json!({"a": 1, "b": [1]}), &json!({"b": [1], "a": 1})).is_empty());
    }
}
