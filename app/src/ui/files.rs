//! Files from the visitor: the button, dropping onto the page, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen_futures::JsFuture;
use web_sys::{DragEvent, File, HtmlInputElement};

use super::session::{Session, use_session};
use super::shared::{Icon, Notice, count};
use crate::import::{Imported, NamedTrajectory, import, wheel_name};
use crate::library::Entry;
use crate::view::{Mode, Source};

/// Larger files are not even read.
const MAX_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

#[derive(Clone, Copy)]
struct Dragging(RwSignal<bool>);

/// Starts listening for dropped files.
pub fn listen(session: Session) {
    let dragging = RwSignal::new(false);
    provide_context(Dragging(dragging));
    let has_files = |event: &DragEvent| {
        event.data_transfer().is_some_and(|transfer| transfer.types().iter().any(|kind| kind == "Files"))
    };
    let over = window_event_listener(ev::dragover, move |event| {
        if has_files(&event) {
            event.prevent_default();
            dragging.set(true);
        }
    });
    let leave = window_event_listener(ev::dragleave, move |event| {
        if event.related_target().is_none() {
            dragging.set(false);
        }
    });
    let drop = window_event_listener(ev::drop, move |event| {
        dragging.set(false);
        let Some(files) = event.data_transfer().and_then(|transfer| transfer.files()) else { return };
        event.prevent_default();
        for file in (0..files.length()).filter_map(|index| files.item(index)) {
            read(session, file);
        }
    });
    on_cleanup(move || {
        over.remove();
        leave.remove();
        drop.remove();
    });
}

/// Shows where to drop while a file is over the page.
#[component]
pub fn DropHint() -> impl IntoView {
    let Dragging(dragging) = expect_context();
    view! {
        <div class="drop-hint" class:is-visible=dragging aria-hidden="true">
            <p>"Drop the bfcl-eval wheel, tasks or trajectories"</p>
        </div>
    }
}

/// The button that opens a file.
#[component]
pub fn FileButton() -> impl IntoView {
    let session = use_session();
    let chosen = move |event: ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        if let Some(files) = input.files() {
            for file in (0..files.length()).filter_map(|index| files.item(index)) {
                read(session, file);
            }
        }
        // So that choosing the same file again counts as a change.
        input.set_value("");
    };
    view! {
        <label class="button quiet" title="Open the bfcl-eval wheel, tasks or trajectories">
            <Icon name="file" />
            <span class="label">"Open file…"</span>
            <input
                id="file"
                type="file"
                class="visually-hidden"
                aria-label="Open file…"
                accept=".whl,.jsonl,.json,.txt"
                multiple
                on:change=chosen
            />
        </label>
    }
}

fn read(session: Session, file: File) {
    let name = file.name();
    if file.size() > MAX_BYTES {
        return session.notify(Notice::error(format!("{name}: the file is too large for the page (over 64 MiB).")));
    }
    spawn_local(async move {
        let bytes = match JsFuture::from(file.array_buffer()).await {
            Ok(buffer) => js_sys::Uint8Array::new(&buffer).to_vec(),
            Err(_) => return session.notify(Notice::error(format!("{name}: the browser could not read the file."))),
        };
        if bytes.starts_with(b"PK") {
            session.notify(Notice::info(format!("Reading {name}…")));
        }
        // Reading the wheel takes a moment: the message is painted first.
        set_timeout(move || take(session, &name, &bytes), Duration::from_millis(30));
    });
}

fn take(session: Session, name: &str, bytes: &[u8]) {
    session.notices.update(|notices| notices.retain(|notice| !notice.text.starts_with("Reading ")));
    let tools = session.library.with_untracked(|library| library.tools.clone());
    let (imported, warnings) = match import(bytes, &tools) {
        Ok(imported) => imported,
        Err(error) => return session.notify(Notice::error(format!("{name}: {error}."))),
    };
    if let Some(first) = warnings.first() {
        let lines = count(warnings.len(), "line was", "lines were");
        session.notify(Notice::error(format!("{name}: {lines} left out. {first}")));
    }
    match imported {
        Imported::Wheel(data) => {
            let total = data.tasks.len();
            session.library.update(|library| {
                library.context.long_context = Some(data.long_context.clone());
                library.entries.retain(|entry| entry.source != Source::Bfcl);
                let entries = data.tasks.iter().map(|task| Arc::new(Entry::of(task.clone(), Source::Bfcl)));
                library.entries.extend(entries);
            });
            let first = data.tasks.first().map(|task| task.id.clone());
            open_first(session, Source::Bfcl, first);
            session.notify(Notice::info(format!("{}: {} loaded.", wheel_name(), count(total, "task", "tasks"))));
        }
        Imported::Tasks(tasks) => {
            let first = tasks.first().map(|task| task.id.clone());
            let total = tasks.len();
            session.library.update(|library| {
                let is_replaced =
                    |entry: &Entry| entry.source == Source::File && tasks.iter().any(|task| task.id == entry.id);
                library.entries.retain(|entry| !is_replaced(entry));
                library.entries.extend(tasks.into_iter().map(|task| Arc::new(Entry::of(task, Source::File))));
            });
            open_first(session, Source::File, first);
            session.notify(Notice::info(format!("{name}: {} loaded.", count(total, "task", "tasks"))));
        }
        Imported::Trajectories(trajectories) => take_trajectories(session, name, trajectories),
    }
}

fn open_first(session: Session, source: Source, first: Option<String>) {
    let Some(first) = first else { return };
    session.playing.set(false);
    session.editing.set(None);
    session.view.update(|view| {
        *view = view.open(source, first);
        view.search.clear();
        view.category = None;
        view.class = None;
    });
}

/// Shows the first trajectory as edits of its task; the others become tasks of their own in the list.
fn take_trajectories(session: Session, name: &str, trajectories: Vec<NamedTrajectory>) {
    let find = |id: &str| {
        session.library.with_untracked(|library| {
            library.entries.iter().find(|entry| entry.id == id && entry.task.is_some()).cloned()
        })
    };
    let known: Vec<_> = trajectories.iter().filter_map(|one| find(&one.id).map(|entry| (entry, one.clone()))).collect();
    let unknown = trajectories.iter().find(|one| find(&one.id).is_none());
    if let Some(unknown) = unknown {
        let missing = trajectories.len() - known.len();
        let lines = count(missing, "trajectory belongs to a task", "trajectories belong to tasks");
        session.notify(Notice::error(format!(
            "{name}: {lines} that the page does not know, such as {}. Drop the wheel or the task file first.",
            unknown.id
        )));
    }
    let Some((entry, first)) = known.first() else { return };
    let truth: Vec<_> = entry.task.iter().flat_map(|task| task.ground_truth().map(<[String]>::to_vec)).collect();
    open_first(session, entry.source, Some(entry.id.clone()));
    session.view.update(|view| {
        view.mode = Mode::Watch;
        view.set_trajectory(&first.turns, &truth);
    });
    let case = first.case.as_ref().map(|case| format!(" ({case})")).unwrap_or_default();
    let total = known.len();
    let shown =
        if total > 1 { format!("; the first of {total} is shown, the others are in the list") } else { String::new() };
    session.trajectories.set(known.into_iter().map(|(entry, one)| (entry.source, one)).collect());
    session.notify(Notice::info(format!("{name}: trajectory of {}{case} loaded{shown}.", first_id(session))));
}

fn first_id(session: Session) -> String {
    session.view.with_untracked(|view| view.task.clone().unwrap_or_default())
}
