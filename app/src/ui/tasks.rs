//! The list of tasks, with its filters.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;

use super::address::link;
use super::session::{Loading, Session, use_session};
use super::shared::{Icon, count};
use crate::library::{Entry, category_words, short_class};
use crate::view::{Mode, Source, View};

/// So many tasks are listed before "Show all".
const FIRST: usize = 120;

/// The list beside the conversation; a drawer where there is no room.
#[component]
pub fn TaskList() -> impl IntoView {
    let session = use_session();
    let filters = Memo::new(move |_| {
        session.view.with(|view| View {
            search: view.search.clone(),
            category: view.category.clone(),
            class: view.class.clone(),
            ..View::default()
        })
    });
    let listed = Memo::new(move |_| {
        let filters = filters.get();
        session.library.with(|library| {
            let entries = library.entries.iter().filter(|entry| entry.is_listed(&filters)).cloned();
            entries.map(super::session::Shared).collect::<Vec<_>>()
        })
    });
    let shows_all = RwSignal::new(false);
    let categories = Memo::new(move |_| distinct(session, |entry| vec![entry.category.clone()]));
    let classes = Memo::new(move |_| distinct(session, |entry| entry.classes.clone()));
    let total = move || session.library.with(|library| library.entries.len());
    view! {
        <div
            class="backdrop"
            class:is-open=session.drawer
            aria-hidden="true"
            on:click=move |_| session.drawer.set(false)
        ></div>
        <nav id="tasks" class="pane tasks" class:is-open=session.drawer aria-label="Tasks">
            <div class="pane-head">
                <h2>"Tasks"</h2>
                <span class="quantity" role="status">
                    {move || {
                        let shown = listed.with(Vec::len);
                        if shown == total() { shown.to_string() } else { format!("{shown} of {}", total()) }
                    }}
                </span>
                <button class="quiet only-narrow" aria-label="Close the tasks" on:click=move |_| session.drawer.set(false)>
                    <Icon name="close" />
                </button>
            </div>
            <div class="filters">
                <div class="search-field">
                    <Icon name="search" />
                    <input
                        id="search"
                        type="search"
                        placeholder="Search tasks and requests"
                        aria-label="Search tasks"
                        prop:value=move || session.view.with(|view| view.search.clone())
                        on:input=move |event| session.view.update(|view| view.search = event_target_value(&event))
                    />
                    <kbd aria-hidden="true">"/"</kbd>
                </div>
                <div class="filter-row">
                    <Filter
                        label="Category"
                        every="Any category"
                        options=categories
                        words=|category| category_words(category).to_owned()
                        chosen=move || session.view.with(|view| view.category.clone())
                        choose=move |category| session.view.update(|view| view.category = category)
                    />
                    <Filter
                        label="API class"
                        every="Any class"
                        options=classes
                        words=|class| short_class(class).to_owned()
                        chosen=move || session.view.with(|view| view.class.clone())
                        choose=move |class| session.view.update(|view| view.class = class)
                    />
                </div>
            </div>
            <div class="pane-scroll">
                {move || match session.loading.get() {
                    Loading::Waiting => Some(view! { <p class="empty">"Loading the tasks…"</p> }.into_any()),
                    Loading::Failed(reason) => {
                        Some(view! { <p class="empty">"The demo tasks did not load: " {reason} ". Drop a file instead."</p> }.into_any())
                    }
                    Loading::Done if listed.with(Vec::is_empty) => {
                        Some(
                            view! {
                                <div class="empty">
                                    <p>"No task matches."</p>
                                    <button on:click=move |_| session.view.update(|view| {
                                        view.search.clear();
                                        view.category = None;
                                        view.class = None;
                                    })>"Clear the filters"</button>
                                </div>
                            }
                                .into_any(),
                        )
                    }
                    Loading::Done => None,
                }}
                <Trajectories />
                <ul class="task-list">
                    <For
                        each=move || {
                            let limit = if shows_all.get() { usize::MAX } else { FIRST };
                            listed.with(|listed| listed.iter().take(limit).cloned().collect::<Vec<_>>())
                        }
                        key=|entry| (entry.source, entry.id.clone())
                        let:entry
                    >
                        <Row entry=entry.0 />
                    </For>
                </ul>
                <Show when=move || !shows_all.get() && listed.with(Vec::len).gt(&FIRST)>
                    <button class="more" on:click=move |_| shows_all.set(true)>
                        "Show all " {move || listed.with(Vec::len)}
                    </button>
                </Show>
            </div>
        </nav>
    }
}

fn distinct(session: Session, of: impl Fn(&Entry) -> Vec<String>) -> Vec<String> {
    session.library.with(|library| {
        library.entries.iter().flat_map(|entry| of(entry)).collect::<BTreeSet<_>>().into_iter().collect()
    })
}

#[component]
fn Filter(
    label: &'static str,
    every: &'static str,
    options: Memo<Vec<String>>,
    words: fn(&str) -> String,
    chosen: impl Fn() -> Option<String> + Copy + Send + Sync + 'static,
    choose: impl Fn(Option<String>) + Copy + Send + Sync + 'static,
) -> impl IntoView {
    view! {
        <select
            aria-label=label
            prop:value=move || {
                options.track();
                chosen().unwrap_or_default()
            }
            on:change=move |event| choose(Some(event_target_value(&event)).filter(|value| !value.is_empty()))
        >
            <option value="">{every}</option>
            <For each=move || options.get() key=Clone::clone let:option>
                <option value=option.clone() selected=move || chosen().as_ref() == Some(&option)>{words(&option)}</option>
            </For>
        </select>
    }
}

#[component]
fn Row(entry: Arc<Entry>) -> impl IntoView {
    let session = use_session();
    let (source, id) = (entry.source, entry.id.clone());
    let is_current = {
        let id = id.clone();
        Memo::new(move |_| session.entry.get().is_some_and(|entry| entry.source == source && entry.id == id))
    };
    let target = {
        let id = id.clone();
        move || session.view.with(|view| view.open(source, id.clone()))
    };
    let address = {
        let target = target.clone();
        move || link(&target())
    };
    let open = move |event: leptos::ev::MouseEvent| {
        if event.ctrl_key() || event.meta_key() || event.shift_key() {
            return;
        }
        event.prevent_default();
        session.playing.set(false);
        session.editing.set(None);
        session.drawer.set(false);
        session.shows_state.set(false);
        let next = session.view.with_untracked(|view| view.open(source, id.clone()));
        session.view.set(next);
    };
    let source_words = match source {
        Source::Demo => None,
        Source::Bfcl => Some("BFCL"),
        Source::File => Some("File"),
    };
    view! {
        <li>
            <a href=address class="task" aria-current=move || is_current.get().then_some("page") on:click=open>
                <span class="task-name">{entry.name().to_owned()}</span>
                <span class="task-facts">
                    {source_words.map(|words| format!("{words} · {} · ", category_words(&entry.category)))}
                    {entry.classes.iter().map(|class| short_class(class)).collect::<Vec<_>>().join(", ")} " · "
                    {count(entry.turns, "turn", "turns")}
                </span>
            </a>
        </li>
    }
}

/// Trajectories that the visitor gave, above the tasks.
#[component]
fn Trajectories() -> impl IntoView {
    let session = use_session();
    let open = move |index: usize| {
        let Some((source, one)) = session.trajectories.with_untracked(|all| all.get(index).cloned()) else { return };
        let truth = session.library.with_untracked(|library| {
            let entry = library.entries.iter().find(|entry| entry.source == source && entry.id == one.id);
            entry.and_then(|entry| entry.task.clone())
        });
        let Some(task) = truth else { return };
        let truth: Vec<_> = task.ground_truth().map(<[String]>::to_vec).collect();
        session.playing.set(false);
        session.editing.set(None);
        session.drawer.set(false);
        session.view.update(|view| {
            *view = View { mode: Mode::Watch, ..view.open(source, one.id.clone()) };
            view.set_trajectory(&one.turns, &truth);
        });
    };
    view! {
        <Show when=move || !session.trajectories.with(Vec::is_empty)>
            <h3 class="list-title">"Your trajectories"</h3>
            <ul class="task-list">
                {move || {
                    session
                        .trajectories
                        .get()
                        .into_iter()
                        .enumerate()
                        .map(|(index, (_, one))| {
                            view! {
                                <li>
                                    <button class="task" on:click=move |_| open(index)>
                                        <span class="task-name">{one.case.unwrap_or_else(|| one.id.clone())}</span>
                                        <span class="task-facts">{one.id} " · " {count(one.turns.len(), "turn", "turns")}</span>
                                    </button>
                                </li>
                            }
                        })
                        .collect_view()
                }}
            </ul>
            <h3 class="list-title">"Tasks"</h3>
        </Show>
    }
}
