//! Two states merged into one tree in which every place says whether it changed, for showing a state with its diff.

use serde_json::Value as Json;

/// What happened to a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Same,
    /// It is new.
    Added,
    /// It is gone; the node holds what was there.
    Removed,
    /// Its value was another one.
    Changed {
        /// The value before.
        before: Json,
    },
}

/// A place in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Object key or list index.
    pub key: String,
    /// What happened here (not below).
    pub change: Change,
    /// How many changes there are here and below.
    pub changes: usize,
    /// A leaf's value, or the places below.
    pub content: Content,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A value without places below it.
    Leaf(Json),
    /// A list or an object.
    Branch {
        /// Whether it is a list.
        is_list: bool,
        /// What it holds.
        children: Vec<Node>,
    },
}

impl Node {
    fn new(key: String, change: Change, content: Content) -> Self {
        let below: usize = match &content {
            Content::Leaf(_) => 0,
            Content::Branch { children, .. } => children.iter().map(|child| child.changes).sum(),
        };
        let changes = if change == Change::Same { below } else { 1 };
        Self { key, change, changes, content }
    }

    /// How many values there are here and below.
    pub fn leaves(&self) -> usize {
        match &self.content {
            Content::Leaf(_) => 1,
            Content::Branch { children, .. } => children.iter().map(Self::leaves).sum(),
        }
    }

    /// A whole value that changed, or did not, as one.
    fn whole(key: &str, value: &Json, change: Change) -> Self {
        let child = |key: &str, value: &Json| Self::whole(key, value, Change::Same);
        let content = match value {
            Json::Object(entries) if !entries.is_empty() => Content::Branch {
                is_list: false,
                children: entries.iter().map(|(key, value)| child(key, value)).collect(),
            },
            Json::Array(items) if !items.is_empty() => Content::Branch {
                is_list: true,
                children: items.iter().enumerate().map(|(index, item)| child(&index.to_string(), item)).collect(),
            },
            other => Content::Leaf(other.clone()),
        };
        Self::new(key.to_owned(), change, content)
    }
}

/// The state with its file system as a reader wants it: a directory is what it contains, a file is its text.
pub fn simplify(state: &Json) -> Json {
    match state {
        Json::Object(entries) => {
            match (entries.len(), entries.get("type"), entries.get("contents"), entries.get("content")) {
                (2, Some(Json::String(kind)), Some(contents), None) if kind == "directory" => simplify(contents),
                (2, Some(Json::String(kind)), None, Some(content)) if kind == "file" => content.clone(),
                _ => entries
                    .iter()
                    .map(|(key, value)| (key.clone(), simplify(value)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            }
        }
        Json::Array(items) => items.iter().map(simplify).collect(),
        other => other.clone(),
    }
}

/// The places of `after`, with those of `before` that are gone, marked. Lists are aligned at their common head and tail, as
/// [`parl_mt::diff::diff`] does.
pub fn merge(key: &str, before: &Json, after: &Json) -> Node {
    match (before, after) {
        (Json::Object(old), Json::Object(new)) if !(old.is_empty() || new.is_empty()) => {
            let mut children: Vec<_> = new
                .iter()
                .map(|(key, value)| match old.get(key) {
                    Some(previous) => merge(key, previous, value),
                    None => Node::whole(key, value, Change::Added),
                })
                .collect();
            // A removed place stands where it stood, or at the end.
            for (index, (key, value)) in old.iter().enumerate().filter(|(_, (key, _))| !new.contains_key(*key)) {
                children.insert(index.min(children.len()), Node::whole(key, value, Change::Removed));
            }
            Node::new(key.to_owned(), Change::Same, Content::Branch { is_list: false, children })
        }
        (Json::Array(old), Json::Array(new)) if !(old.is_empty() && new.is_empty()) => {
            let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
            let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
            let mut children = Vec::with_capacity(old.len().max(new.len()));
            let same = |index: usize| Node::whole(&index.to_string(), &new[index], Change::Same);
            children.extend((0..head).map(same));
            let (old_middle, new_middle) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
            for index in 0..old_middle.len().max(new_middle.len()) {
                let key = (head + index).to_string();
                children.push(match (old_middle.get(index), new_middle.get(index)) {
                    (Some(previous), Some(value)) => merge(&key, previous, value),
                    (None, Some(value)) => Node::whole(&key, value, Change::Added),
                    (Some(previous), None) => Node::whole(&key, previous, Change::Removed),
                    (None, None) => unreachable!("the index is below one of the lengths"),
                });
            }
            children.extend((new.len() - tail..new.len()).map(same));
            Node::new(key.to_owned(), Change::Same, Content::Branch { is_list: true, children })
        }
        (old, new) if old == new => Node::whole(key, new, Change::Same),
        (old, new) => Node::whole(key, new, Change::Changed { before: old.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(node: &Node) -> Vec<String> {
        fn walk(node: &Node, depth: usize, lines: &mut Vec<String>) {
            let symbol = match &node.change {
                Change::Same => ' ',
                Change::Added => '+',
                Change::Removed => '-',
                Change::Changed { .. } => '~',
            };
            let value = match &node.content {
                Content::Leaf(value) => value.to_string(),
                Content::Branch { .. } => String::new(),
            };
            lines.push(format!("{symbol}{}{}: {value}", "  ".repeat(depth), node.key).trim_end().to_owned());
            if let Content::Branch { children, .. } = &node.content {
                children.iter().for_each(|child| walk(child, depth + 1, lines));
            }
        }
        let mut out = Vec::new();
        walk(node, 0, &mut out);
        out
    }

    #[test]
    fn marks_each_changed_place() {
        let tree = merge(
            "s",
            &json!({"a": 1, "gone": [1], "list": [1, 2, 3], "same": {}}),
            &json!({"a": 2, "list": [1, 3], "same": {}, "new": {"x": null}}),
        );
        assert_eq!(
            lines(&tree),
            [
                " s:",
                "~  a: 2",
                "-  gone:",
                "     0: 1",
                "   list:",
                "     0: 1",
                "-    1: 2",
                "     1: 3",
                "   same: {}",
                "+  new:",
                "     x: null"
            ]
        );
        assert_eq!(tree.changes, 4);
    }

    #[test]
    fn a_file_system_reads_as_its_contents() {
        let state =
            json!({"root": {"home": {"type": "directory", "contents": {"a.txt": {"type": "file", "content": "x"}}}}});
        assert_eq!(simplify(&state), json!({"root": {"home": {"a.txt": "x"}}}));
        let other = json!([{"type": "file", "size": 1}]);
        assert_eq!(simplify(&other), other);
    }

    #[test]
    fn equal_states_have_no_mark_and_counts_agree_with_the_diff() {
        let state = json!({"a": [], "b": {"c": 1}});
        assert_eq!(merge("s", &state, &state).changes, 0);
        for (before, after) in [
            (json!({"a": []}), json!({"a": [1]})),
            (json!([1, 2]), json!([2, 1, 0])),
            (json!({"a": {}}), json!({"a": {"b": 1}})),
            (json!(1), json!([1])),
        ] {
            assert!(merge("s", &before, &after).changes > 0);
        }
    }
}
