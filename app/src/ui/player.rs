//! Play, Pause, Step, Back, Reset, speed, and the timeline.

use std::time::Duration;

use leptos::leptos_dom::helpers::IntervalHandle;
use leptos::prelude::*;
use web_sys::{ScrollBehavior, ScrollIntoViewOptions, ScrollLogicalPosition};

use super::session::{Session, use_session};
use super::shared::{Icon, prefers_less_motion};
use crate::moments::Moment;
use crate::view::{Mode, Speed};

/// Starts or stops; from the end it starts again.
pub fn toggle(session: Session) {
    let starts = !session.playing.get_untracked();
    if starts && session.moments.with_untracked(Vec::is_empty) {
        return;
    }
    if starts {
        let from = if untrack(|| session.is_at_end()) { 0 } else { session.position.get_untracked() };
        session.go_to(from);
    }
    session.playing.set(starts);
}

/// Moves the view on while playing, and keeps what is shown in sight.
pub fn run(session: Session) {
    let speed = Memo::new(move |_| session.view.with(|view| view.speed));
    Effect::new(move |running: Option<Option<IntervalHandle>>| {
        if let Some(running) = running.flatten() {
            running.clear();
        }
        if !session.playing.get() {
            return None;
        }
        let tick = move || {
            if untrack(|| session.is_at_end()) {
                session.playing.set(false);
            } else {
                session.go_by(1);
            }
        };
        set_interval_with_handle(tick, Duration::from_millis(speed.get().interval_ms())).ok()
    });
    let shown = Memo::new(move |_| (session.position.get(), session.task.get().map(|task| task.id.clone())));
    Effect::new(move |previous: Option<Option<String>>| {
        let (_, task) = shown.get();
        // A newly opened task is shown from its beginning, unless a link says otherwise.
        let is_place = session.view.with_untracked(|view| view.position.is_some() || view.mode == Mode::Play);
        let is_same_task = previous.is_some_and(|previous| previous == task);
        if is_place || is_same_task {
            request_animation_frame(move || scroll_to_current(is_same_task && !prefers_less_motion()));
        } else if let Some(pane) = document().get_element_by_id("conversation-scroll") {
            pane.set_scroll_top(0);
        }
        task
    });
}

fn scroll_to_current(is_smooth: bool) {
    // Where it is the visitor's move, that is what must be in sight.
    for selector in ["[data-current]", ".composer"] {
        if let Ok(Some(element)) = document().query_selector(selector) {
            scroll_to(&element, is_smooth);
        }
    }
}

fn scroll_to(element: &web_sys::Element, is_smooth: bool) {
    let options = ScrollIntoViewOptions::new();
    options.set_block(ScrollLogicalPosition::Nearest);
    let behavior = if is_smooth { ScrollBehavior::Smooth } else { ScrollBehavior::Auto };
    options.set_behavior(behavior);
    element.scroll_into_view_with_scroll_into_view_options(&options);
}

/// The bar below the conversation.
#[component]
pub fn Player() -> impl IntoView {
    let session = use_session();
    let total = move || session.moments.with(Vec::len);
    let step = move |offset: isize| {
        session.playing.set(false);
        session.go_by(offset);
    };
    let words = move || {
        let turns = session.task.get().map_or(0, |task| task.turns.len());
        session.moment().map_or(String::new(), |moment| {
            let place = format!("Turn {} of {turns}", moment.turn() + 1);
            match moment {
                Moment::TurnOpened { .. } => format!("{place}, the user speaks"),
                Moment::Called { turn, step, index } => {
                    let before = session.moments.with(|moments| {
                        let is_before = |moment: &&Moment| {
                            matches!(**moment, Moment::Called { turn: t, step: s, index: i }
                                if t == turn && (s, i) <= (step, index))
                        };
                        moments.iter().filter(is_before).count()
                    });
                    format!("{place}, call {before}")
                }
                Moment::TurnChecked { .. } => format!("{place}, checked"),
            }
        })
    };
    view! {
        <div class="player" role="group" aria-label="Player">
            <div class="track" style:max-width=move || format!("{}rem", total() * 4)>
                <div class="segments" aria-hidden="true">
                    {move || {
                        session
                            .moments
                            .get()
                            .into_iter()
                            .enumerate()
                            .map(|(index, moment)| {
                                let kind = match moment {
                                    Moment::TurnOpened { .. } => "segment is-user",
                                    Moment::Called { .. } => "segment is-call",
                                    Moment::TurnChecked { unchecked: true, .. } => "segment is-unchecked",
                                    Moment::TurnChecked { valid: true, .. } => "segment is-pass",
                                    Moment::TurnChecked { .. } => "segment is-fail",
                                };
                                view! {
                                    <span
                                        class=kind
                                        class:is-reached=move || index <= session.shown.get()
                                        class:is-current=move || index == session.position.get()
                                    ></span>
                                }
                            })
                            .collect_view()
                    }}
                </div>
                <input
                    type="range"
                    min="0"
                    max=move || total().saturating_sub(1).to_string()
                    prop:value=move || {
                        total();
                        session.position.get().to_string()
                    }
                    aria-label="Timeline"
                    aria-valuetext=words
                    on:input=move |event| {
                        session.playing.set(false);
                        if let Ok(position) = event_target_value(&event).parse() {
                            session.go_to(position);
                        }
                    }
                />
            </div>
            <div class="player-row">
                <div class="player-buttons">
                    <button
                        class="round"
                        aria-label="Back"
                        title="Back (←)"
                        disabled=move || session.position.get() == 0
                        on:click=move |_| step(-1)
                    >
                        <Icon name="back" />
                    </button>
                    <button
                        id="play"
                        class:primary=move || session.mode() == Mode::Watch
                        title="Play or pause (Space)"
                        on:click=move |_| toggle(session)
                    >
                        {move || {
                            if session.playing.get() {
                                view! { <Icon name="pause" /> }
                            } else {
                                view! { <Icon name="play" /> }
                            }
                        }}
                        {move || {
                            if session.playing.get() {
                                "Pause"
                            } else if session.is_at_end() {
                                "Replay"
                            } else {
                                "Play"
                            }
                        }}
                    </button>
                    <button
                        class="round"
                        aria-label="Step"
                        title="Step (→)"
                        disabled=move || session.is_at_end()
                        on:click=move |_| step(1)
                    >
                        <Icon name="step" />
                    </button>
                    <button
                        class="round"
                        aria-label="Reset to the beginning"
                        title="To the beginning (Home)"
                        disabled=move || session.position.get() == 0
                        on:click=move |_| {
                            session.playing.set(false);
                            session.go_to(0);
                        }
                    >
                        <Icon name="reset" />
                    </button>
                </div>
                <p class="player-words">{words}</p>
                <label class="speed">
                    <span class="label">"Speed"</span>
                    <select
                        aria-label="Speed"
                        on:change=move |event| {
                            let chosen = event_target_value(&event);
                            let speed = Speed::ALL.into_iter().find(|speed| speed.to_string() == chosen);
                            session.view.update(|view| view.speed = speed.unwrap_or_default());
                        }
                    >
                        {Speed::ALL
                            .into_iter()
                            .map(|speed| {
                                view! {
                                    <option
                                        value=speed.to_string()
                                        selected=move || session.view.with(|view| view.speed == speed)
                                    >
                                        {speed.to_string()}
                                        "×"
                                    </option>
                                }
                            })
                            .collect_view()}
                    </select>
                </label>
            </div>
        </div>
    }
}
