//! Everything that a visitor sees, as plain data, and its query string. A copied link shows the same view.

use std::collections::BTreeMap;
use std::fmt;

use parl_mt::agent::Trajectory;

/// Where a task comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The tasks that ship with the page.
    #[default]
    Demo,
    /// BFCL's own, from the native server or from the wheel.
    Bfcl,
    /// A file that the visitor gave.
    File,
}

/// What the visitor does with a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Watch the ground truth (or a given trajectory), and edit it.
    #[default]
    Watch,
    /// Play the agent: the ground truth is hidden.
    Play,
}

/// A colour scheme chosen by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark text on a light ground.
    Light,
    /// Light text on a dark ground.
    Dark,
}

/// How fast Play goes, in thousandths of the normal speed (so that it compares exactly).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed(pub u32);

impl Speed {
    /// The speeds on offer.
    pub const ALL: [Self; 5] = [Self(250), Self(500), Self(1000), Self(2000), Self(4000)];

    /// Milliseconds from one moment to the next.
    pub fn interval_ms(self) -> u64 {
        1_400_000 / u64::from(self.0.max(1))
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self(1000)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", f64::from(self.0) / 1000.0)
    }
}

/// The whole view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Where the task comes from.
    pub source: Source,
    /// The task's id; `None` means the first one.
    pub task: Option<String>,
    /// Which moment of the timeline is shown; `None` means the end of the first turn.
    pub position: Option<usize>,
    /// How far the conversation is shown, where that is further than `position` (a moment before was selected).
    pub reach: Option<usize>,
    /// Watching or playing.
    pub mode: Mode,
    /// Turns whose steps differ from the ground truth.
    pub edits: BTreeMap<usize, Vec<Vec<String>>>,
    /// How many turns the trajectory has, where that differs from the task.
    pub turns: Option<usize>,
    /// What the visitor has called as the agent.
    pub played: Trajectory,
    /// How many turns the visitor has ended as the agent.
    pub ended: usize,
    /// Whether the ground truth is shown while playing.
    pub revealed: bool,
    /// Whether the state panel shows changed places only.
    pub changes_only: bool,
    /// How fast Play goes.
    pub speed: Speed,
    /// The colour scheme, if chosen by hand.
    pub theme: Option<Theme>,
    /// Words that listed tasks must contain.
    pub search: String,
    /// The category that listed tasks must have.
    pub category: Option<String>,
    /// The API class that listed tasks must involve.
    pub class: Option<String>,
}

impl View {
    /// From a query string, with or without `?`. What does not read is left at its default.
    pub fn from_query(query: &str) -> Self {
        let mut view = Self::default();
        for (key, value) in form_urlencoded::parse(query.trim_start_matches('?').as_bytes()) {
            let text = || Some(value.to_string()).filter(|text| !text.is_empty());
            match key.as_ref() {
                "source" => {
                    view.source = match value.as_ref() {
                        "bfcl" => Source::Bfcl,
                        "file" => Source::File,
                        _ => Source::Demo,
                    }
                }
                "task" => view.task = text(),
                "at" => view.position = value.parse().ok(),
                "reach" => view.reach = value.parse().ok(),
                "mode" if value == "play" => view.mode = Mode::Play,
                "edits" => view.edits = serde_json::from_str(&value).unwrap_or_default(),
                "turns" => view.turns = value.parse().ok(),
                "calls" => view.played = serde_json::from_str(&value).unwrap_or_default(),
                "ended" => view.ended = value.parse().unwrap_or_default(),
                "revealed" => view.revealed = value == "1",
                "changes" => view.changes_only = value == "only",
                "speed" => {
                    let wanted = value.parse::<f64>().map_or(1000.0, |speed| speed * 1000.0);
                    view.speed = Speed::ALL.into_iter().find(|speed| f64::from(speed.0) == wanted).unwrap_or_default();
                }
                "theme" => {
                    view.theme = match value.as_ref() {
                        "light" => Some(Theme::Light),
                        "dark" => Some(Theme::Dark),
                        _ => None,
                    }
                }
                "search" => view.search = value.into_owned(),
                "category" => view.category = text(),
                "class" => view.class = text(),
                _ => {}
            }
        }
        view
    }

    /// The query string (without `?`) that [`View::from_query`] reads back. Defaults are left out.
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                query.append_pair(key, value);
            }
        };
        add(
            "source",
            match self.source {
                Source::Demo => None,
                Source::Bfcl => Some("bfcl"),
                Source::File => Some("file"),
            },
        );
        add("task", self.task.as_deref());
        add("at", self.position.map(|position| position.to_string()).as_deref());
        add("reach", self.reach.map(|reach| reach.to_string()).as_deref());
        add("mode", (self.mode == Mode::Play).then_some("play"));
        add("edits", (!self.edits.is_empty()).then(|| json(&self.edits)).as_deref());
        add("turns", self.turns.map(|turns| turns.to_string()).as_deref());
        add("calls", (!self.played.is_empty()).then(|| json(&self.played)).as_deref());
        add("ended", (self.ended > 0).then(|| self.ended.to_string()).as_deref());
        add("revealed", self.revealed.then_some("1"));
        add("changes", self.changes_only.then_some("only"));
        add("speed", (self.speed != Speed::default()).then(|| self.speed.to_string()).as_deref());
        add(
            "theme",
            self.theme.map(|theme| match theme {
                Theme::Light => "light",
                Theme::Dark => "dark",
            }),
        );
        add("search", Some(&self.search));
        add("category", self.category.as_deref());
        add("class", self.class.as_deref());
        query.finish()
    }

    /// The view on another task: what belongs to the old task is dropped, settings and filters stay.
    pub fn open(&self, source: Source, task: impl Into<String>) -> Self {
        Self {
            source,
            task: Some(task.into()),
            mode: self.mode,
            changes_only: self.changes_only,
            speed: self.speed,
            theme: self.theme,
            search: self.search.clone(),
            category: self.category.clone(),
            class: self.class.clone(),
            ..Self::default()
        }
    }

    /// Whether going from `self` to `next` is a step that "back" should undo, rather than a detail.
    pub fn is_new_place(&self, next: &Self) -> bool {
        let place = |view: &Self| {
            (view.source, view.task.clone(), view.mode, view.edits.clone(), view.turns, view.ended, view.revealed)
        };
        place(self) != place(next)
    }

    /// The trajectory to watch: `truth` with the edits put in.
    pub fn trajectory(&self, truth: impl IntoIterator<Item = impl AsRef<[String]>>) -> Trajectory {
        let steps = |calls: &[String]| if calls.is_empty() { Vec::new() } else { vec![calls.to_vec()] };
        let mut trajectory: Trajectory = truth.into_iter().map(|calls| steps(calls.as_ref())).collect();
        if let Some(turns) = self.turns {
            // A trajectory may be longer than its task; a link must not make it absurdly long.
            trajectory.resize(turns.min(trajectory.len() + 100), Vec::new());
        }
        for (turn, steps) in &self.edits {
            if let Some(place) = trajectory.get_mut(*turn) {
                // An empty step says nothing; the checker drops it too.
                *place = steps.iter().filter(|calls| !calls.is_empty()).cloned().collect();
            }
        }
        trajectory
    }

    /// Shows `trajectory` instead of the ground truth, by way of edits.
    pub fn set_trajectory(&mut self, trajectory: &Trajectory, truth: &[Vec<String>]) {
        self.turns = (trajectory.len() != truth.len()).then_some(trajectory.len());
        self.edits = trajectory
            .iter()
            .enumerate()
            .filter(|(turn, steps)| {
                let given: Vec<_> = steps.iter().flatten().collect();
                let steps = steps.iter().filter(|calls| !calls.is_empty()).count();
                let is_truth = truth.get(*turn).is_some_and(|calls| given.iter().copied().eq(calls)) && steps <= 1;
                !is_truth
            })
            .map(|(turn, steps)| (turn, steps.clone()))
            .collect();
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(view: &View) {
        let query = view.to_query();
        assert_eq!(View::from_query(&query), *view, "{query}");
        assert_eq!(View::from_query(&format!("?{query}")), *view);
    }

    #[test]
    fn the_default_view_has_an_empty_query() {
        assert_eq!(View::default().to_query(), "");
        assert_eq!(View::from_query(""), View::default());
        assert_eq!(View::from_query("?"), View::default());
    }

    #[test]
    fn every_part_survives_a_round_trip() {
        let view = View {
            source: Source::Bfcl,
            task: Some("multi_turn_base_0".into()),
            position: Some(7),
            reach: Some(9),
            mode: Mode::Play,
            edits: [(1, vec![vec!["cd(folder='a & b=c+d')".into(), "ls()".into()], vec!["pwd()".into()]]), (3, vec![])]
                .into(),
            turns: Some(2),
            played: vec![vec![vec!["écho(text=\"50 % 😀\")".into()]], vec![]],
            ended: 1,
            revealed: true,
            changes_only: true,
            speed: Speed(500),
            theme: Some(Theme::Dark),
            search: "flight & card".into(),
            category: Some("base".into()),
            class: Some("TravelAPI".into()),
        };
        round_trip(&view);
        round_trip(&View { theme: Some(Theme::Light), source: Source::File, position: Some(0), ..view });
        for speed in Speed::ALL {
            round_trip(&View { speed, ..View::default() });
        }
    }

    #[test]
    fn nonsense_is_ignored() {
        let query =
            "at=-1&edits={&calls=5&speed=nan&theme=pink&mode=x&unknown=1&ended=x&task=&turns=99999999999999999999";
        assert_eq!(View::from_query(query), View::default());
    }

    #[test]
    fn edits_replace_turns_of_the_ground_truth() {
        let truth = [vec!["a()".to_owned()], vec![], vec!["b()".to_owned(), "c()".to_owned()]];
        let mut view = View::default();
        assert_eq!(view.trajectory(&truth), [vec![vec!["a()"]], vec![], vec![vec!["b()", "c()"]]]);
        view.edits.insert(2, vec![vec!["b()".into()]]);
        view.edits.insert(9, vec![vec!["z()".into()]]);
        assert_eq!(view.trajectory(&truth), [vec![vec!["a()"]], vec![], vec![vec!["b()"]]]);
        let trajectory = vec![vec![vec!["a()".to_owned()]], vec![vec!["x()".to_owned()]]];
        view.set_trajectory(&trajectory, &truth);
        assert_eq!(view.edits.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(view.trajectory(&truth), trajectory);
    }

    #[test]
    fn back_undoes_places_and_not_details() {
        let view = View::default();
        assert!(view.is_new_place(&view.open(Source::Demo, "other")));
        assert!(!view.is_new_place(&View { position: Some(3), search: "x".into(), ..View::default() }));
    }
}
