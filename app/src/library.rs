//! The tasks that the page knows, and which of them are listed.

use std::ops::Deref;
use std::sync::Arc;

use parl_mt::task::{TaskSpec, TaskSummary};

use crate::view::{Source, View};

/// A task in the list. BFCL tasks of the native server are fetched when opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the list shows of it.
    pub summary: TaskSummary,
    /// Where it comes from.
    pub source: Source,
    /// The task, once it is here.
    pub task: Option<Arc<TaskSpec>>,
}

impl Deref for Entry {
    type Target = TaskSummary;

    fn deref(&self) -> &TaskSummary {
        &self.summary
    }
}

impl Entry {
    /// The entry of a task that is here.
    pub fn of(task: TaskSpec, source: Source) -> Self {
        Self { summary: TaskSummary::from(&task), source, task: Some(Arc::new(task)) }
    }

    /// The entry of a task that the native server has.
    pub fn elsewhere(summary: TaskSummary) -> Self {
        Self { summary, source: Source::Bfcl, task: None }
    }

    /// What the list shows first.
    pub fn name(&self) -> &str {
        if self.title.is_empty() { &self.id } else { &self.title }
    }

    /// Whether the view's filters let it through.
    pub fn is_listed(&self, view: &View) -> bool {
        let is_category = view.category.as_ref().is_none_or(|category| *category == self.category);
        let is_class = view.class.as_ref().is_none_or(|class| self.classes.contains(class));
        is_category && is_class && self.contains(&view.search)
    }

    /// Whether every word occurs in its id, title, category, classes or user messages.
    fn contains(&self, search: &str) -> bool {
        let search = search.to_lowercase();
        let mut words = search.split_whitespace().peekable();
        if words.peek().is_none() {
            return true;
        }
        let mut text = format!("{} {} {} {}", self.id, self.title, self.category, self.classes.join(" "));
        for message in self.task.iter().flat_map(|task| &task.turns).flat_map(|turn| &turn.messages) {
            text.push(' ');
            text.push_str(&message.content);
        }
        let text = text.to_lowercase();
        words.all(|word| text.contains(word))
    }
}

/// A class's name without what all names share, for chips.
pub fn short_class(class: &str) -> &str {
    match class {
        "GorillaFileSystem" => "File system",
        "VehicleControlAPI" => "Vehicle",
        "TradingBot" => "Trading",
        other => other.trim_end_matches("API"),
    }
}

/// A category in words.
pub fn category_words(category: &str) -> &str {
    match category {
        "base" => "Base",
        "miss_func" => "Missing function",
        "miss_param" => "Missing parameter",
        "long_context" => "Long context",
        "demo" => "Demo",
        "file" => "Your file",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_combine() {
        let summary = serde_json::from_str(
            r#"{"id": "multi_turn_base_3", "title": "Book a flight", "category": "base", "classes": ["TravelAPI"], "turns": 2}"#,
        );
        let entry = Entry::elsewhere(summary.unwrap());
        let listed = |query: &str| entry.is_listed(&View::from_query(query));
        assert!(listed(""));
        assert!(listed("search=FLIGHT+base_3&category=base&class=TravelAPI"));
        assert!(!listed("search=flight+car"));
        assert!(!listed("category=miss_func"));
        assert!(!listed("class=MathAPI"));
    }
}
