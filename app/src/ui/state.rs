//! The state of the world as a tree, with what the moment on show changed.

use std::collections::HashMap;
use std::sync::Arc;

use leptos::prelude::*;
use parl_mt::diff::{StateChange, diff};
use serde_json::Value as Json;

use super::session::{Shared, use_session};
use super::shared::count;
use crate::library::short_class;
use crate::moments::Moment;
use crate::results::inline;
use crate::state_tree::{Change, Content, Node, merge, simplify};

/// So many places of one list or object are shown at first.
const FIRST_CHILDREN: usize = 60;
/// A value is cut after so many characters.
const LEAF_CHARS: usize = 200;
/// Lists and objects of at most so many values are open at first.
const OPEN_LEAVES: usize = 14;
/// So many changes are listed above the tree.
const FIRST_CHANGES: usize = 8;

/// Which places the visitor has opened or closed by hand.
#[derive(Clone, Copy)]
struct Folds(RwSignal<HashMap<String, bool>>);

/// The pane beside the conversation.
#[component]
pub fn StatePane() -> impl IntoView {
    let session = use_session();
    provide_context(Folds(RwSignal::new(HashMap::new())));
    let states = Memo::new(move |_| {
        let playback = session.played()?;
        let (before, after) = match session.moment()? {
            Moment::TurnOpened { turn } => {
                let (before, _) = playback.turn_states(turn);
                (before, before)
            }
            Moment::Called { turn, step, index } => {
                let call = playback.call(turn, step, index)?;
                (&call.before, &call.after)
            }
            Moment::TurnChecked { turn, .. } => playback.turn_states(turn),
        };
        let simple = Shared(Arc::new(simplify(after)));
        let before = if Arc::ptr_eq(before, after) { simple.clone() } else { Shared(Arc::new(simplify(before))) };
        Some((before, simple))
    });
    let title = move || match session.moment() {
        Some(Moment::TurnOpened { turn: 0 }) | None => "At the start".to_owned(),
        Some(Moment::TurnOpened { turn }) => format!("Before turn {}", turn + 1),
        Some(Moment::Called { .. }) => "What this call changed".to_owned(),
        Some(Moment::TurnChecked { turn, .. }) => format!("What turn {} changed", turn + 1),
    };
    let changes = Memo::new(move |_| {
        states.get().map(|(before, after)| if before == after { Vec::new() } else { diff(&before, &after) })
    });
    view! {
        <aside id="state" class="pane state" aria-label="State of the world">
            <div class="pane-head">
                <h2>"State"</h2>
                <span class="quantity">{title}</span>
            </div>
            <div class="pane-scroll" tabindex="0" role="region" aria-label="State">
                {move || {
                    let is_change = !matches!(session.moment(), Some(Moment::TurnOpened { .. }) | None);
                    changes.get().filter(|_| is_change).map(|changes| change_list(&changes))
                }}
                <label class="check">
                    <input
                        type="checkbox"
                        prop:checked=move || session.view.with(|view| view.changes_only)
                        on:change=move |event| {
                            session.view.update(|view| view.changes_only = event_target_checked(&event));
                        }
                    />
                    "Only what changed"
                </label>
                {move || {
                    states
                        .get()
                        .map(|(before, after)| {
                            let only = session.view.with(|view| view.changes_only);
                            classes(&before.0, &after.0, only)
                        })
                }}
            </div>
        </aside>
    }
}

/// The changes in words, one line each.
fn change_list(changes: &[StateChange]) -> impl IntoView + use<> {
    if changes.is_empty() {
        return view! { <p class="no-change">"Nothing changed."</p> }.into_any();
    }
    let more = changes.len().saturating_sub(FIRST_CHANGES);
    let lines = changes.iter().take(FIRST_CHANGES).map(|change| {
        let (class, mark, words) = match (&change.before, &change.after) {
            (None, _) => ("is-added", "+", "added"),
            (_, None) => ("is-removed", "−", "removed"),
            _ => ("is-changed", "~", "changed"),
        };
        let value = |value: &Json| view! { <code>{inline(value, 80)}</code> };
        let before = change.before.as_ref().filter(|_| change.after.is_some()).map(value);
        let after = change.after.as_ref().or(change.before.as_ref()).map(value);
        let arrow = before.is_some().then(|| view! { <span class="arrow" aria-label="becomes">" → "</span> });
        view! {
            <li class=class>
                <span class=format!("change-mark {class}") role="img" aria-label=words>{mark}</span>
                <span class="change-text">
                    <span class="change-path">{change.path[1..].join(" › ")}</span>
                    <span class="change-values">{before}{arrow}{after}</span>
                </span>
            </li>
        }
    });
    view! {
        <ul class="change-list">{lines.collect_view()}</ul>
        {(more > 0).then(|| view! { <p class="hint">"and " {count(more, "more change", "more changes")}</p> })}
    }
    .into_any()
}

fn classes(before: &Arc<Json>, after: &Arc<Json>, changes_only: bool) -> impl IntoView + use<> {
    let empty = Json::Null;
    let Json::Object(classes) = &**after else { return ().into_any() };
    classes
        .iter()
        .map(|(class, state)| {
            let tree = merge(class, before.get(class).unwrap_or(&empty), state);
            if changes_only && tree.changes == 0 {
                return ().into_any();
            }
            let changed = (tree.changes > 0).then(|| {
                view! { <span class="change-count">{count(tree.changes, "change", "changes")}</span> }
            });
            let children = match tree.content {
                Content::Branch { children, .. } => nodes(children, class, changes_only, None),
                Content::Leaf(_) => view! { <p class="hint">"This class keeps no state."</p> }.into_any(),
            };
            view! {
                <section class="class-state">
                    <h3>{short_class(class).to_owned()} " " {changed}</h3>
                    {children}
                </section>
            }
            .into_any()
        })
        .collect_view()
        .into_any()
}

/// `opens` says whether unchanged lists and objects are open at first; at the top, that depends on their size.
fn nodes(children: Vec<Node>, path: &str, changes_only: bool, opens: Option<bool>) -> AnyView {
    let shown: Vec<_> = children.into_iter().filter(|node| !changes_only || node.changes > 0).collect();
    let total = shown.len();
    let limit = RwSignal::new(FIRST_CHILDREN);
    // Changed places beyond the first ones are shown too.
    let last_changed = shown.iter().rposition(|node| node.changes > 0).map_or(0, |index| index + 1);
    let first = FIRST_CHILDREN.max(last_changed.min(FIRST_CHILDREN * 4));
    limit.set(first);
    let path = path.to_owned();
    view! {
        <ul class="tree">
            {move || {
                shown
                    .iter()
                    .take(limit.get())
                    .map(|node| {
                        let opens = opens.unwrap_or_else(|| node.leaves() <= OPEN_LEAVES);
                        node_view(node.clone(), &path, changes_only, opens)
                    })
                    .collect_view()
            }}
        </ul>
        <Show when=move || limit.get().lt(&total)>
            <button class="more" on:click=move |_| limit.update(|limit| *limit += 500)>
                "Show more of " {total}
            </button>
        </Show>
    }
    .into_any()
}

/// A text of several lines, cut where it is long.
fn shorten_lines(text: &str) -> String {
    match text.char_indices().nth(2 * LEAF_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn node_view(node: Node, parent: &str, changes_only: bool, opens: bool) -> AnyView {
    let path = format!("{parent}/{}", node.key);
    let (class, mark) = match &node.change {
        Change::Same => ("node", None),
        Change::Added => ("node is-added", Some(("+", "added"))),
        Change::Removed => ("node is-removed", Some(("−", "removed"))),
        Change::Changed { .. } => ("node is-changed", Some(("~", "changed"))),
    };
    let mark_class = class.replace("node", "change-mark");
    let mark = mark.map(|(mark, words)| view! { <span class=mark_class role="img" aria-label=words>{mark}</span> });
    let before = match &node.change {
        Change::Changed { before } => Some(view! {
            <del>{inline(before, 160)}</del>
            <span class="arrow" aria-hidden="true">" → "</span>
        }),
        _ => None,
    };
    let key = node.key.clone();
    match node.content {
        Content::Leaf(value) => {
            let kind = match &value {
                Json::String(_) => "token-text",
                Json::Number(_) => "token-number",
                _ => "token-constant",
            };
            let text = match &value {
                Json::String(text) if text.contains('\n') => shorten_lines(text),
                other => inline(other, LEAF_CHARS),
            };
            let kind = if text.contains('\n') { "token-text is-block" } else { kind };
            view! {
                <li class=class>
                    {mark}
                    <span class="key">{key}</span>
                    <span class="value">{before} <span class=kind>{text}</span></span>
                </li>
            }
            .into_any()
        }
        Content::Branch { is_list, children } => {
            let Folds(folds) = expect_context();
            let is_open = folds.with_untracked(|folds| folds.get(&path).copied()).unwrap_or(node.changes > 0 || opens);
            let size = if is_list {
                count(children.len(), "item", "items")
            } else {
                count(children.len(), "entry", "entries")
            };
            let open = RwSignal::new(is_open);
            let below = path.clone();
            let has_changes = node.changes > 0 && node.change == Change::Same;
            view! {
                <li class=class>
                    <details
                        open=is_open
                        on:toggle={
                            move |event| {
                                let details: web_sys::Element = event_target(&event);
                                let now = details.has_attribute("open");
                                if now != open.get_untracked() {
                                    open.set(now);
                                    folds.update(|folds| {
                                        folds.insert(path.clone(), now);
                                    });
                                }
                            }
                        }
                    >
                        <summary>
                            {mark}
                            <span class="key">{key}</span>
                            {before}
                            <span class="size">{size}</span>
                            {has_changes.then(|| view! { <span class="dot" role="img" aria-label="contains changes"></span> })}
                        </summary>
                        {move || open.get().then(|| nodes(children.clone(), &below, changes_only, Some(opens)))}
                    </details>
                </li>
            }
            .into_any()
        }
    }
}
