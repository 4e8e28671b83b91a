//! What the page knows, and everything derived from it.

use std::sync::Arc;
use std::time::Duration;

use leptos::prelude::*;
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::BfclContext;
use parl_mt::playback::{Playback, Progress};
use parl_mt::task::TaskSpec;

use super::shared::Notice;
use crate::import::NamedTrajectory;
use crate::library::Entry;
use crate::moments::{Moment, moments, opening_position};
use crate::view::{Mode, Source, View};

/// A shared value that is equal only to itself, so that comparing costs nothing.
#[derive(Debug)]
pub struct Shared<T>(pub Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Tasks and what they need.
#[derive(Clone, Default)]
pub struct Library {
    /// All known tasks.
    pub entries: Vec<Arc<Entry>>,
    /// In which worlds run.
    pub context: BfclContext,
    /// All tool specs by class, as JSON text.
    pub tools: Arc<str>,
}

/// Where the page's tasks are in coming.
#[derive(Clone, Debug, PartialEq)]
pub enum Loading {
    /// They are on their way.
    Waiting,
    /// They are here.
    Done,
    /// They did not come.
    Failed(String),
}

/// What a visitor sees first: a conversation whose first turn already shows what the page is about.
const OPENING_TASK: &str = "parl_demo_3";

/// How long a message stays that asks for nothing.
const INFO_TIME: Duration = Duration::from_secs(7);

/// The address of a call: turn, step, place in the step.
pub type Place = (usize, usize, usize);

/// The page's state. Copies are handles to the same state.
#[derive(Clone, Copy)]
pub struct Session {
    /// What the visitor sees; the URL follows it.
    pub view: RwSignal<View>,
    /// Tasks and what they need.
    pub library: RwSignal<Library>,
    /// Whether the demo tasks are here.
    pub loading: RwSignal<Loading>,
    /// Whether Play is running.
    pub playing: RwSignal<bool>,
    /// Messages to the visitor.
    pub notices: RwSignal<Vec<Notice>>,
    /// The call whose text is being edited.
    pub editing: RwSignal<Option<Place>>,
    /// Whether the list of tasks is open where it does not fit beside the conversation.
    pub drawer: RwSignal<bool>,
    /// Trajectories that the visitor gave.
    pub trajectories: RwSignal<Vec<(Source, NamedTrajectory)>>,
    /// Whether the state is shown instead of the conversation where only one fits.
    pub shows_state: RwSignal<bool>,
    /// Whether the help is open.
    pub help: RwSignal<bool>,
    /// While a call is being typed, its changes make one step of history.
    pub is_typing: StoredValue<bool>,
    /// The list's entry on show.
    pub entry: Memo<Option<Shared<Entry>>>,
    /// The task on show.
    pub task: Memo<Option<Shared<TaskSpec>>>,
    /// The calls on show.
    pub trajectory: Memo<Trajectory>,
    /// The calls, executed.
    pub playback: Memo<Option<Result<Shared<Playback>, String>>>,
    /// The timeline.
    pub moments: Memo<Vec<Moment>>,
    /// Where in the timeline the view stands.
    pub position: Memo<usize>,
    /// How far the conversation is shown.
    pub shown: Memo<usize>,
}

impl Session {
    /// The session of a freshly opened page.
    pub fn new() -> Self {
        let view = RwSignal::new(View::from_query(&location().search().unwrap_or_default()));
        let library = RwSignal::new(Library::default());
        let entry = Memo::new(move |_| {
            let (source, id) = view.with(|view| (view.source, view.task.clone()));
            library.with(|library| {
                let mut entries = library.entries.iter().filter(|entry| entry.source == source);
                match id {
                    Some(id) => entries.find(|entry| entry.id == id),
                    None => {
                        let first = entries.clone().find(|entry| entry.id == OPENING_TASK);
                        first.or_else(|| entries.next())
                    }
                }
                .cloned()
                .map(Shared)
            })
        });
        let task = Memo::new(move |_| entry.get().and_then(|entry| entry.task.clone()).map(Shared));
        let trajectory = Memo::new(move |_| {
            let Some(task) = task.get() else { return Trajectory::new() };
            view.with(|view| match view.mode {
                Mode::Watch => view.trajectory(task.ground_truth()),
                Mode::Play => played(view, &task),
            })
        });
        let mode = Memo::new(move |_| view.with(|view| view.mode));
        let context = Memo::new(move |_| library.with(|library| library.context.long_context.clone().map(Shared)));
        let progress = Memo::new(move |_| {
            let turns = task.get().map_or(0, |task| task.turns.len());
            view.with(|view| match view.mode {
                Mode::Play if view.ended < turns => Progress::LastTurnOpen,
                _ => Progress::Complete,
            })
        });
        let playback = Memo::new(move |_| {
            let (task, progress) = (task.get()?, progress.get());
            let trajectory = trajectory.get();
            let _ = context.get();
            let context = library.with_untracked(|library| library.context.clone());
            let playback = Playback::new(&task, &trajectory, progress, &context);
            Some(playback.map(|playback| Shared(Arc::new(playback))).map_err(|error| error.to_string()))
        });
        let moments = Memo::new(move |_| match playback.get() {
            Some(Ok(playback)) => moments(&playback),
            _ => Vec::new(),
        });
        let position = Memo::new(move |_| {
            moments.with(|moments| {
                let last = moments.len().saturating_sub(1);
                match (view.with(|view| view.position), mode.get()) {
                    (Some(position), _) => position.min(last),
                    (None, Mode::Watch) => opening_position(moments),
                    (None, Mode::Play) => last,
                }
            })
        });
        let shown = Memo::new(move |_| {
            let last = moments.with(|moments| moments.len().saturating_sub(1));
            let reach = view.with(|view| view.reach).unwrap_or(0);
            position.get().max(reach.min(last))
        });
        Self {
            view,
            library,
            loading: RwSignal::new(Loading::Waiting),
            playing: RwSignal::new(false),
            notices: RwSignal::new(Vec::new()),
            editing: RwSignal::new(None),
            drawer: RwSignal::new(false),
            trajectories: RwSignal::new(Vec::new()),
            shows_state: RwSignal::new(false),
            help: RwSignal::new(false),
            is_typing: StoredValue::new(false),
            entry,
            task,
            trajectory,
            playback,
            moments,
            position,
            shown,
        }
    }

    /// The playback, if the task runs.
    pub fn played(&self) -> Option<Shared<Playback>> {
        self.playback.get().and_then(Result::ok)
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.view.with(|view| view.mode)
    }

    /// Whether the ground truth may be seen.
    pub fn shows_truth(&self) -> bool {
        self.view.with(|view| view.mode == Mode::Watch || view.revealed)
    }

    /// The moment on show.
    pub fn moment(&self) -> Option<Moment> {
        self.moments.with(|moments| moments.get(self.position.get()).copied())
    }

    /// Shows the conversation up to another moment.
    pub fn go_to(&self, position: usize) {
        self.view.update(|view| {
            view.position = Some(position);
            view.reach = None;
        });
    }

    /// Looks at a moment without hiding what comes after it.
    pub fn select(&self, moment: impl Fn(&Moment) -> bool) {
        let Some(position) = self.moments.with_untracked(|moments| moments.iter().position(moment)) else { return };
        let shown = self.shown.get_untracked();
        self.playing.set(false);
        self.look_at(position, shown);
    }

    fn look_at(&self, position: usize, shown: usize) {
        self.view.update(|view| {
            view.position = Some(position);
            view.reach = Some(shown).filter(|shown| *shown > position);
        });
    }

    /// Shows the moment before or after.
    pub fn go_by(&self, offset: isize) {
        let last = self.moments.with_untracked(Vec::len).saturating_sub(1);
        let position = self.position.get_untracked().saturating_add_signed(offset).min(last);
        // Among moments that are shown, the selection moves; at the last one, time does.
        let is_selecting = self.view.with_untracked(|view| view.reach.is_some());
        if is_selecting { self.look_at(position, self.shown.get_untracked()) } else { self.go_to(position) }
    }

    /// Whether all of the conversation is shown.
    pub fn is_all_shown(&self) -> bool {
        self.moments.with(|moments| self.shown.get() + 1 >= moments.len())
    }

    /// Whether nothing comes after the moment on show.
    pub fn is_at_end(&self) -> bool {
        self.moments.with(|moments| self.position.get() + 1 >= moments.len())
    }

    /// Changes the steps of a turn and stays at the same moment, although others may have come or gone.
    pub fn edit_turn(&self, turn: usize, change: impl FnOnce(&mut Vec<Vec<String>>)) {
        let Some(task) = self.task.get_untracked() else { return };
        let held = self.moments.with_untracked(|moments| {
            let held = |position: usize| moments.get(position).copied();
            (held(self.position.get_untracked()), held(self.shown.get_untracked()))
        });
        let was_all_shown = untrack(|| self.is_all_shown());
        let mut trajectory = self.trajectory.get_untracked();
        let Some(steps) = trajectory.get_mut(turn) else { return };
        change(steps);
        steps.retain(|calls| !calls.is_empty());
        let truth: Vec<_> = task.ground_truth().map(<[String]>::to_vec).collect();
        self.view.update(|view| view.set_trajectory(&trajectory, &truth));
        let is_same = |held: Option<Moment>| {
            move |moment: &Moment| match (*moment, held) {
                (Moment::TurnChecked { turn, .. }, Some(Moment::TurnChecked { turn: held, .. })) => turn == held,
                (moment, held) => Some(moment) == held,
            }
        };
        let (position, shown) = self.moments.with_untracked(|moments| {
            let last = moments.len().saturating_sub(1);
            let shown = if was_all_shown { Some(last) } else { moments.iter().position(is_same(held.1)) };
            (moments.iter().position(is_same(held.0)), shown)
        });
        let position = position.unwrap_or(self.position.get_untracked());
        self.look_at(position, shown.unwrap_or(position));
    }

    /// Drops all edits.
    pub fn reset_edits(&self) {
        self.editing.set(None);
        self.playing.set(false);
        self.view.update(|view| {
            view.edits.clear();
            view.turns = None;
        });
    }

    /// Tells the visitor something.
    pub fn notify(&self, notice: Notice) {
        self.notices.update(|notices| {
            notices.retain(|shown| shown.text != notice.text);
            notices.push(notice.clone());
            // More than three are a wall, not messages.
            let surplus = notices.len().saturating_sub(3);
            notices.drain(..surplus);
        });
        if !notice.is_error {
            let notices = self.notices;
            let forget = move || notices.update(|notices| notices.retain(|shown| shown.text != notice.text));
            set_timeout(forget, INFO_TIME);
        }
    }
}

/// The visitor's calls as the agent, with the open turn.
fn played(view: &View, task: &TaskSpec) -> Trajectory {
    let ended = view.ended.min(task.turns.len());
    let mut played = view.played.clone();
    // While turns are left, the last one of the trajectory is open.
    let turns = if ended < task.turns.len() { ended + 1 } else { ended };
    played.resize(turns, Vec::new());
    played
}

/// The session of the page.
pub fn use_session() -> Session {
    expect_context()
}
