//! Gets tasks: those that ship with the page, and BFCL's from the native server where there is one.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use parl_mt::env::bfcl::LongContext;
use parl_mt::env::bfcl::data::read_tasks;
use parl_mt::task::{TaskSpec, TaskSummary};
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::Response;

use super::session::{Loading, Session};
use super::shared::Notice;
use crate::library::Entry;
use crate::view::{Source, View};

/// Starts loading, and goes on as the visitor opens tasks that are not here yet.
pub fn load(session: Session) {
    spawn_local(async move {
        match demo().await {
            Ok((tools, tasks, errors)) => {
                session.library.update(|library| {
                    library.tools = tools.into();
                    library.entries.extend(tasks.into_iter().map(|task| Arc::new(Entry::of(task, Source::Demo))));
                });
                session.loading.set(Loading::Done);
                if let Some(error) = errors.first() {
                    session.notify(Notice::error(format!("A demo task does not read: {error}")));
                }
            }
            Err(reason) => session.loading.set(Loading::Failed(reason)),
        }
        if has_server().await {
            load_summaries(session).await;
        }
        explain_missing(session);
    });
    Effect::new(move || {
        let Some(entry) = session.entry.get().filter(|entry| entry.task.is_none()) else { return };
        spawn_local(async move {
            if let Err(reason) = load_task(session, &entry.id).await {
                session.notify(Notice::error(format!("{} could not be loaded: {reason}", entry.id)));
            }
        });
    });
}

/// A link may name a task that is not here: says so, and shows another one.
fn explain_missing(session: Session) {
    let Some(id) = session.view.with_untracked(|view| view.task.clone()) else { return };
    if session.entry.get_untracked().is_some() {
        return;
    }
    let remedy = match session.view.with_untracked(|view| view.source) {
        Source::Demo => "There is no demo task of that name.",
        Source::Bfcl => {
            "It is one of BFCL's: start the page with the native server, or drop the bfcl-eval wheel onto it."
        }
        Source::File => "It came from a file: drop that file onto the page again.",
    };
    session.notify(Notice::error(format!("The link shows the task {id}, which is not here. {remedy}")));
    session.view.update(|view| {
        *view = View { task: None, ..view.open(Source::Demo, "") };
    });
}

async fn demo() -> Result<(String, Vec<TaskSpec>, Vec<String>), String> {
    let tools = fetch("tasks/tools.json").await?;
    let tasks = fetch("tasks/demo.jsonl").await?;
    let (tasks, errors) = read_tasks(&tasks, &tools, "demo");
    if tasks.is_empty() {
        return Err(errors.first().map_or("there are none".to_owned(), ToString::to_string));
    }
    Ok((tools, tasks, errors.iter().map(ToString::to_string).collect()))
}

/// Whether the native server is there and has BFCL's data. It serves on this machine only, so that a page from
/// elsewhere does not even ask.
async fn has_server() -> bool {
    let host = location().hostname().unwrap_or_default();
    if !["127.0.0.1", "localhost", "[::1]"].contains(&host.as_str()) {
        return false;
    }
    let status = fetch("api/status").await.unwrap_or_default();
    let status = serde_json::from_str::<serde_json::Value>(&status).unwrap_or_default();
    status.get("bfcl").and_then(serde_json::Value::as_bool) == Some(true)
}

async fn load_summaries(session: Session) {
    let entries = fetch("api/bfcl/tasks")
        .await
        .and_then(|text| serde_json::from_str::<Vec<TaskSummary>>(&text).map_err(|error| error.to_string()));
    match entries {
        Ok(entries) => session.library.update(|library| {
            let entries = entries.into_iter().map(|entry| Arc::new(Entry::elsewhere(entry)));
            library.entries.extend(entries);
        }),
        Err(reason) => session.notify(Notice::error(format!("BFCL's tasks could not be listed: {reason}"))),
    }
}

async fn load_task(session: Session, id: &str) -> Result<(), String> {
    let task = fetch(&format!("api/bfcl/tasks/{id}")).await?;
    let task: TaskSpec = serde_json::from_str(&task).map_err(|error| error.to_string())?;
    let is_missing = session.library.with_untracked(|library| library.context.long_context.is_none());
    if task.is_long_context() && is_missing {
        let source = fetch("api/bfcl/long_context.py").await?;
        let data = LongContext::from_source(&source).map_err(|error| error.to_string())?;
        session.library.update(|library| library.context.long_context = Some(Arc::new(data)));
    }
    session.library.update(|library| {
        let place = library.entries.iter_mut().find(|entry| entry.source == Source::Bfcl && entry.id == task.id);
        if let Some(entry) = place {
            *entry = Arc::new(Entry::of(task, Source::Bfcl));
        }
    });
    Ok(())
}

/// The text at an address relative to the page.
async fn fetch(address: &str) -> Result<String, String> {
    let words = |_| "the server did not answer".to_owned();
    let response = JsFuture::from(window().fetch_with_str(address)).await.map_err(words)?;
    let response: Response = response.dyn_into().map_err(words)?;
    if !response.ok() {
        return Err(format!("{address} answered {}", response.status()));
    }
    let text = JsFuture::from(response.text().map_err(words)?).await.map_err(words)?;
    text.as_string().ok_or_else(|| format!("{address} is not text"))
}
