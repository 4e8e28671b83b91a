//! The conversation: what the user says, what the agent calls, what comes back, and the verdicts.

use leptos::prelude::*;
use parl_mt::message::Role;

use super::agent::Composer;
use super::call::CallView;
use super::player::Player;
use super::session::{Loading, use_session};
use super::shared::{Icon, count};
use super::verdict::{OverallVerdict, TurnVerdictView};
use crate::library::{category_words, short_class};
use crate::moments::Moment;
use crate::view::{Mode, Source};

/// The pane in the middle.
#[component]
pub fn ConversationPane() -> impl IntoView {
    let session = use_session();
    let id = Memo::new(move |_| session.task.get().map(|task| task.id.clone()));
    view! {
        <main id="conversation" class="pane conversation" tabindex="-1">
            {move || match (id.get(), session.loading.get()) {
                (Some(_), _) => view! { <Conversation /> }.into_any(),
                (None, Loading::Failed(_)) => {
                    view! {
                        <div class="empty is-large">
                            <h2>"No task is here yet"</h2>
                            <p>"Drop the bfcl-eval wheel or a file with tasks onto the page."</p>
                        </div>
                    }
                        .into_any()
                }
                (None, _) => {
                    view! {
                        <div class="skeleton" aria-label="Loading">
                            <span></span>
                            <span></span>
                            <span></span>
                            <span></span>
                        </div>
                    }
                        .into_any()
                }
            }}
        </main>
    }
}

#[component]
fn Conversation() -> impl IntoView {
    let session = use_session();
    let error = Memo::new(move |_| session.playback.get().and_then(|playback| playback.err()));
    let turns = Memo::new(move |_| {
        let position = session.shown.get();
        session.moments.with(|moments| {
            let reached = moments.iter().take(position + 1);
            reached.filter(|moment| matches!(moment, Moment::TurnOpened { .. })).count()
        })
    });
    view! {
        <Heading />
        <div id="conversation-scroll" class="pane-scroll" tabindex="0" role="region" aria-label="Conversation">
            {move || {
                error
                    .get()
                    .map(|error| view! { <p class="notice is-error">"This task does not run: " {error}</p> })
            }}
            <ol class="turns">
                <For each=move || 0..turns.get() key=|turn| *turn let:turn>
                    <Turn turn />
                </For>
            </ol>
            <Upcoming />
            <Composer />
        </div>
        <Player />
    }
}

/// Title, facts, the overall verdict and the mode.
#[component]
fn Heading() -> impl IntoView {
    let session = use_session();
    let facts = move || {
        session.entry.get().map(|entry| {
            let source = match entry.source {
                Source::Demo => "Demo".to_owned(),
                Source::Bfcl => format!("BFCL · {}", category_words(&entry.category)),
                Source::File => "Your file".to_owned(),
            };
            let classes = entry.classes.iter().map(|class| {
                view! { <li class="badge" title=class.clone()>{short_class(class).to_owned()}</li> }
            });
            view! {
                <ul class="badges">
                    <li class="badge is-source">{source}</li>
                    {classes.collect_view()}
                    <li class="badge">{count(entry.turns, "turn", "turns")}</li>
                </ul>
            }
        })
    };
    let is_edited = Memo::new(move |_| session.view.with(|view| !view.edits.is_empty() || view.turns.is_some()));
    let mode_button = move |mode: Mode, words: (&'static str, &'static str), title: &'static str| {
        view! {
            <button
                title=title
                aria-pressed=move || (session.mode() == mode).to_string()
                on:click=move |_| {
                    session.playing.set(false);
                    session.editing.set(None);
                    session.view.update(|view| {
                        if view.mode != mode {
                            view.mode = mode;
                            view.position = None;
                            view.reach = None;
                        }
                    });
                }
            >
                {words.0}
                <span class="label">{words.1}</span>
            </button>
        }
    };
    view! {
        <div class="heading">
            <div class="heading-text">
                <h2>{move || session.entry.get().map(|entry| entry.name().to_owned())}</h2>
                {facts}
            </div>
            <div class="heading-tools">
                <div class="switch" role="group" aria-label="Mode">
                    {mode_button(Mode::Watch, ("Watch", " and edit"), "Watch the right solution, and change it")}
                    {mode_button(Mode::Play, ("Play", " the agent"), "Make the calls yourself; the solution is hidden")}
                </div>
                <div class="outcome">
                    <Show when=move || is_edited.get() && session.mode() == Mode::Watch>
                        <button class="small" id="reset-edits" on:click=move |_| session.reset_edits()>
                            <Icon name="reset" />
                            "Reset edits"
                        </button>
                    </Show>
                    <OverallVerdict />
                </div>
            </div>
            <div class="switch only-one-column" role="group" aria-label="What to show">
                <button
                    aria-pressed=move || (!session.shows_state.get()).to_string()
                    on:click=move |_| session.shows_state.set(false)
                >
                    "Conversation"
                </button>
                <button
                    aria-pressed=move || session.shows_state.get().to_string()
                    on:click=move |_| session.shows_state.set(true)
                >
                    "State"
                </button>
            </div>
        </div>
    }
}

#[component]
fn Turn(turn: usize) -> impl IntoView {
    let session = use_session();
    let messages = Memo::new(move |_| {
        let playback = session.played()?;
        playback.conversation.turns.get(turn).map(|record| (record.messages.clone(), record.added_tools.clone()))
    });
    let total = move || session.task.get().map_or(0, |task| task.turns.len());
    // Steps and calls that the view has reached, as one number of calls per step.
    let steps = Memo::new(move |_| {
        let position = session.shown.get();
        let mut steps: Vec<usize> = Vec::new();
        session.moments.with(|moments| {
            for moment in moments.iter().take(position + 1) {
                if let Moment::Called { turn: t, step, index } = *moment
                    && t == turn
                {
                    steps.resize(step + 1, 0);
                    steps[step] = index + 1;
                }
            }
        });
        steps
    });
    let is_checked = Memo::new(move |_| {
        let position = session.shown.get();
        session.moments.with(|moments| {
            let is_here = |moment: &Moment| matches!(moment, Moment::TurnChecked { turn: t, .. } if *t == turn);
            moments.iter().take(position + 1).any(is_here)
        })
    });
    let is_opening = Memo::new(move |_| session.moment() == Some(Moment::TurnOpened { turn }));
    let can_edit = move || session.mode() == Mode::Watch && is_checked.get();
    let has_no_calls = move || steps.with(Vec::is_empty) && is_checked.get();
    let add = move |step: Option<usize>| {
        session.playing.set(false);
        let place = {
            let steps = session.trajectory.with_untracked(|turns| turns.get(turn).cloned()).unwrap_or_default();
            match step {
                Some(step) => (turn, step, steps.get(step).map_or(0, Vec::len)),
                None => (turn, steps.len(), 0),
            }
        };
        // A space, because a step without calls is dropped and a call without text is deleted.
        session.edit_turn(turn, |steps| match step.and_then(|step| steps.get_mut(step)) {
            Some(calls) => calls.push(" ".into()),
            None => steps.push(vec![" ".into()]),
        });
        session.editing.set(Some(place));
        let (turn, step, index) = place;
        session.select(|moment| *moment == Moment::Called { turn, step, index });
    };
    view! {
        <li class="turn" data-turn=turn>
            <div class="turn-head" data-current=move || is_opening.get().then_some("")>
            <h3 class="turn-title">
                "Turn " {turn + 1} <span class="hint">" of " {total}</span>
            </h3>
            {move || {
                messages
                    .get()
                    .map(|(messages, added)| {
                        let bubbles = messages
                            .into_iter()
                            .map(|message| {
                                let (class, who) = match message.role {
                                    Role::System => ("message is-system", "System"),
                                    _ => ("message is-user", "User"),
                                };
                                view! {
                                    <div class=class>
                                        <span class="who">{who}</span>
                                        <p>{message.content}</p>
                                    </div>
                                }
                            })
                            .collect_view();
                        let joined = (!added.is_empty())
                            .then(|| {
                                let names = added.iter().map(|name| view! { <code>{name.clone()}</code> " " });
                                view! {
                                    <p class="joined">
                                        <Icon name="add" />
                                        <span>
                                            {if added.len() == 1 { "This function joins now: " } else { "These functions join now: " }}
                                            {names.collect_view()}
                                        </span>
                                    </p>
                                }
                            });
                        view! {
                            {joined}
                            {bubbles}
                        }
                    })
            }}
            </div>
            <ol class="steps">
                <For each=move || 0..steps.with(Vec::len) key=|step| *step let:step>
                    <li class="step">
                        <Show when=move || { steps.with(Vec::len).gt(&1) }>
                            <h4 class="step-title">"Step " {step + 1}</h4>
                        </Show>
                        <ol class="calls">
                            <For
                                each=move || 0..steps.with(|steps| steps.get(step).copied().unwrap_or(0))
                                key=|index| *index
                                let:index
                            >
                                <CallView place=(turn, step, index) />
                            </For>
                        </ol>
                        <Show when=move || { can_edit() && step + 1 < steps.with(Vec::len) }>
                            <button class="quiet small add" on:click=move |_| add(Some(step))>
                                <Icon name="add" />
                                "Add call"
                            </button>
                        </Show>
                    </li>
                </For>
            </ol>
            <Show when=move || has_no_calls()>
                <p class="no-calls">"The agent makes no call in this turn."</p>
            </Show>
            <Show when=move || can_edit()>
                <div class="turn-tools">
                    <Show when=move || !steps.with(Vec::is_empty)>
                        <button
                            class="quiet small add"
                            title="One more call in the same reply"
                            on:click=move |_| add(Some(steps.with(Vec::len).saturating_sub(1)))
                        >
                            <Icon name="add" />
                            "Add call"
                        </button>
                    </Show>
                    <button
                        class="quiet small add add-step"
                        title="One more reply of the agent, after it has read the results"
                        on:click=move |_| add(None)
                    >
                        <Icon name="add" />
                        "Add step"
                    </button>
                    <Show when=move || session.view.with(|view| view.edits.contains_key(&turn))>
                        <button
                            class="quiet small"
                            on:click=move |_| {
                                session.editing.set(None);
                                session.view.update(|view| drop(view.edits.remove(&turn)));
                            }
                        >
                            <Icon name="reset" />
                            "Reset this turn"
                        </button>
                    </Show>
                </div>
            </Show>
            <Show when=move || is_checked.get()>
                <TurnVerdictView turn />
            </Show>
        </li>
    }
}

/// What is still to come, so that nobody takes the middle for the end.
#[component]
fn Upcoming() -> impl IntoView {
    let session = use_session();
    move || {
        if session.is_all_shown() || session.moments.with(Vec::is_empty) {
            return None;
        }
        let total = session.task.get().map_or(0, |task| task.turns.len());
        let shown = session.shown.get();
        let turn = session.moments.with(|moments| moments.get(shown).copied()).map_or(0, Moment::turn);
        let left = total - turn - 1;
        let words = match left {
            0 => "The turn goes on. Press Play or Step.".to_owned(),
            left => format!("{} to come. Press Play or Step.", count(left, "more turn", "more turns")),
        };
        Some(view! { <p class="upcoming">{words}</p> })
    }
}
