//! One call with its result and what it changed, and the editor of its text.

use std::time::Duration;

use leptos::html;
use leptos::leptos_dom::helpers::TimeoutHandle;
use leptos::prelude::*;
use parl_mt::diff::StateChange;

use super::session::{Place, Session, use_session};
use super::shared::{Icon, Suggestions, highlighted};
use crate::call_text::complete;
use crate::moments::Moment;
use crate::results::readable;
use crate::view::Mode;

/// How long after the last keystroke an edited call is executed.
const TYPING_PAUSE: Duration = Duration::from_millis(120);
/// So many completions are offered.
const SUGGESTIONS: usize = 6;

#[derive(Clone, Debug, PartialEq)]
struct Shown {
    text: String,
    result: String,
    is_error: bool,
    added: usize,
    removed: usize,
    changed: usize,
}

/// A call, its result, and how much it changed.
#[component]
pub fn CallView(
    /// Which one.
    place: Place,
) -> impl IntoView {
    let session = use_session();
    let (turn, step, index) = place;
    let shown = Memo::new(move |_| {
        let playback = session.played()?;
        let call = playback.call(turn, step, index)?;
        let number = |is_kind: fn(&StateChange) -> bool| call.changes.iter().filter(|change| is_kind(change)).count();
        Some(Shown {
            text: call.text.clone(),
            result: call.result.content.clone(),
            is_error: call.result.is_error,
            added: number(|change| change.before.is_none()),
            removed: number(|change| change.after.is_none()),
            changed: number(|change| change.before.is_some() && change.after.is_some()),
        })
    });
    let text = Memo::new(move |_| shown.get().map(|shown| shown.text).unwrap_or_default());
    let result = Memo::new(move |_| shown.get().map(|shown| (shown.result, shown.is_error)));
    let marks = Memo::new(move |_| shown.get().map(|shown| (shown.added, shown.removed, shown.changed)));
    let moment = Moment::Called { turn, step, index };
    let is_current = Memo::new(move |_| session.moment() == Some(moment));
    let is_editing = Memo::new(move |_| session.editing.get() == Some(place));
    let is_edited = Memo::new(move |_| {
        let task = session.task.get();
        let is_watching = session.mode() == Mode::Watch;
        task.is_some_and(|task| {
            let truth = task.turns.get(turn).is_some_and(|turn| turn.ground_truth.contains(&text.get()));
            is_watching && !truth
        })
    });
    let select = move |_| session.select(|one| *one == moment);
    let edit = move |_| {
        session.select(|one| *one == moment);
        session.editing.set(Some(place));
    };
    let remove = move |_| {
        session.playing.set(false);
        session.editing.set(None);
        session.edit_turn(turn, |steps| {
            if let Some(calls) = steps.get_mut(step).filter(|calls| index < calls.len()) {
                calls.remove(index);
            }
        });
    };
    view! {
        <li
            class="call"
            class:is-current=is_current
            data-place=format!("{turn}.{step}.{index}")
            data-current=move || is_current.get().then_some("")
        >
            {move || {
                if is_editing.get() {
                    view! { <Editor place /> }.into_any()
                } else {
                    view! {
                        <div class="call-line">
                            <button
                                class="call-text"
                                title="Show the state after this call"
                                aria-current=move || is_current.get().then_some("step")
                                on:click=select
                                on:dblclick=move |event| {
                                    if session.view.with_untracked(|view| view.mode == Mode::Watch) {
                                        edit(event);
                                    }
                                }
                            >
                                <code>{move || highlighted(&text.get())}</code>
                            </button>
                            <Show when=move || is_edited.get()>
                                <span class="badge is-edited">"Edited"</span>
                            </Show>
                            <Show when=move || session.mode() == Mode::Watch>
                                <span class="call-tools">
                                    <button class="quiet small" aria-label="Edit this call" title="Edit" on:click=edit>
                                        <Icon name="edit" />
                                    </button>
                                    <button class="quiet small" aria-label="Delete this call" title="Delete" on:click=remove>
                                        <Icon name="delete" />
                                    </button>
                                </span>
                            </Show>
                        </div>
                    }
                        .into_any()
                }
            }}
            {move || result.get().map(|(content, is_error)| result_view(&content, is_error))}
            {move || marks.get().map(|(added, removed, changed)| marks_view(added, removed, changed))}
        </li>
    }
}

fn result_view(content: &str, is_error: bool) -> impl IntoView + use<> {
    let shown = readable(content);
    let (class, mark, words) =
        if is_error { ("result is-error", "!", "Answered with an error") } else { ("result", "↳", "Result") };
    let body = match shown.preview {
        None => view! { <pre>{shown.full}</pre> }.into_any(),
        Some(preview) => view! {
            <details class="fold">
                <summary><span class="fold-preview">{preview}</span><span class="fold-words"></span></summary>
                <pre tabindex="0">{shown.full}</pre>
            </details>
        }
        .into_any(),
    };
    view! {
        <div class=class>
            <span class="result-mark" role="img" aria-label=words>{mark}</span>
            {body}
        </div>
    }
}

fn marks_view(added: usize, removed: usize, changed: usize) -> impl IntoView {
    let mark = |class: &'static str, symbol: &'static str, number: usize, words: &'static str| {
        (number > 0).then(|| {
            view! {
                <span class=format!("change-chip {class}") title=format!("{number} {words} in the state")>
                    <span aria-hidden="true">{symbol}</span>
                    {number}
                    <span class="visually-hidden">" " {words} " in the state"</span>
                </span>
            }
        })
    };
    (added + removed + changed > 0).then(|| {
        view! {
            <p class="change-chips">
                <span class="hint">"State"</span>
                {mark("is-added", "+", added, "added")}
                {mark("is-removed", "−", removed, "removed")}
                {mark("is-changed", "~", changed, "changed")}
            </p>
        }
    })
}

/// The field in which a call is typed. What is typed is executed after a short pause.
#[component]
fn Editor(place: Place) -> impl IntoView {
    let session = use_session();
    let (turn, step, index) = place;
    let original = untrack(|| {
        session.trajectory.with(|turns| turns.get(turn)?.get(step)?.get(index).cloned()).unwrap_or_default()
    });
    let draft = RwSignal::new(original.clone());
    let pending = StoredValue::new(None::<TimeoutHandle>);
    let field = NodeRef::<html::Textarea>::new();
    Effect::new(move || {
        if let Some(field) = field.get() {
            let _ = field.focus();
            let _ = field.set_selection_range(field.value().len() as u32, field.value().len() as u32);
        }
    });
    let cancel_pending = move || {
        if let Some(handle) = pending.try_update_value(Option::take).flatten() {
            handle.clear();
        }
    };
    let type_in = move |text: String| {
        draft.set(text);
        cancel_pending();
        let handle = set_timeout_with_handle(
            move || {
                if session.editing.get_untracked() == Some(place) {
                    apply(session, place, draft.get_untracked());
                    session.is_typing.set_value(true);
                }
            },
            TYPING_PAUSE,
        );
        pending.set_value(handle.ok());
    };
    let close = move |text: String| {
        cancel_pending();
        apply(session, place, text);
        session.editing.set(None);
        focus_call(place);
    };
    on_cleanup(move || {
        cancel_pending();
        session.is_typing.set_value(false);
    });
    let escape = {
        let original = original.clone();
        move || close(original.clone())
    };
    let escape_by_key = escape.clone();
    let suggestions = Memo::new(move |_| {
        let tools = session.task.get();
        tools.map(|task| complete(&draft.get(), &task.tools, SUGGESTIONS)).unwrap_or_default()
    });
    let choose = move |template: String| {
        type_in(template);
        if let Some(field) = field.get_untracked() {
            let _ = field.focus();
        }
    };
    view! {
        <div class="editor">
            <textarea
                node_ref=field
                rows="1"
                spellcheck="false"
                autocomplete="off"
                autocapitalize="off"
                aria-label="Call"
                placeholder="function(parameter='value')"
                prop:value=draft
                on:input=move |event| type_in(event_target_value(&event))
                on:keydown=move |event| match event.key().as_str() {
                    "Enter" if !event.shift_key() => {
                        event.prevent_default();
                        close(draft.get_untracked());
                    }
                    "Escape" => {
                        event.prevent_default();
                        escape_by_key();
                    }
                    _ => {}
                }
            ></textarea>
            <div class="editor-tools">
                <Suggestions suggestions choose=choose />
                <button class="small" on:click=move |_| escape()>"Cancel"</button>
                <button class="small primary" on:click=move |_| close(draft.get_untracked())>"Keep"</button>
            </div>
        </div>
    }
}

/// Puts the typed text in. A call without text is deleted when the editor closes.
fn apply(session: Session, place: Place, text: String) {
    let (turn, step, index) = place;
    let is_open = session.editing.get_untracked() == Some(place);
    let current = session.trajectory.with_untracked(|turns| turns.get(turn)?.get(step)?.get(index).cloned());
    if !is_open || current.is_none() || (current.as_ref() == Some(&text) && !text.trim().is_empty()) {
        return;
    }
    session.edit_turn(turn, |steps| {
        let Some(calls) = steps.get_mut(step) else { return };
        if text.trim().is_empty() {
            calls.remove(index);
        } else if let Some(call) = calls.get_mut(index) {
            *call = text;
        }
    });
}

/// After editing, the keyboard is where it was.
fn focus_call((turn, step, index): Place) {
    request_animation_frame(move || {
        use wasm_bindgen::JsCast as _;
        let selector = format!("[data-place='{turn}.{step}.{index}'] .call-text");
        let button = document().query_selector(&selector).ok().flatten();
        if let Some(button) = button.and_then(|button| button.dyn_into::<web_sys::HtmlElement>().ok()) {
            let _ = button.focus();
        }
    });
}
