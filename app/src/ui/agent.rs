//! Playing the agent: choosing calls, ending turns, and revealing the ground truth.

use leptos::html;
use leptos::prelude::*;
use parl_mt::tool::ToolSpec;

use super::session::use_session;
use super::shared::{Icon, Suggestions, count, highlighted};
use crate::call_text::complete;
use crate::form::{Field, Kind, call_string, fields};
use crate::view::Mode;

/// How calls are entered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Form,
    Text,
}

/// What stands at the end of the conversation while playing the agent.
#[component]
pub fn Composer() -> impl IntoView {
    let session = use_session();
    let is_playing = Memo::new(move |_| session.mode() == Mode::Play);
    let is_over = Memo::new(move |_| session.played().is_some_and(|playback| playback.verdict.is_some()));
    view! {
        <Show when=move || is_playing.get() && session.is_all_shown()>
            <Show when=move || is_over.get() fallback=|| view! { <OpenTurn /> }>
                <Over />
            </Show>
        </Show>
    }
}

#[component]
fn Over() -> impl IntoView {
    let session = use_session();
    let words = move || {
        let verdict = session.played().and_then(|playback| playback.verdict.clone());
        match verdict {
            Some(verdict) if verdict.valid => "You solved it: every turn passed.".to_owned(),
            Some(verdict) => format!("Not solved: turn {} failed first.", verdict.turn.unwrap_or(0) + 1),
            None => String::new(),
        }
    };
    view! {
        <section class="composer is-over" aria-label="The end">
            <p class="composer-words">{words}</p>
            <div class="composer-buttons">
                <RevealButton />
                <RestartButton />
            </div>
        </section>
    }
}

#[component]
fn RevealButton() -> impl IntoView {
    let session = use_session();
    view! {
        <button id="reveal" on:click=move |_| session.view.update(|view| view.revealed = !view.revealed)>
            {move || if session.view.with(|view| view.revealed) { "Hide the solution" } else { "Reveal the solution" }}
        </button>
    }
}

#[component]
fn RestartButton() -> impl IntoView {
    let session = use_session();
    view! {
        <button on:click=move |_| {
            session.view.update(|view| {
                view.played.clear();
                view.ended = 0;
                view.revealed = false;
                view.position = None;
                view.reach = None;
            });
        }>
            <Icon name="reset" />
            "Start again"
        </button>
    }
}

#[component]
fn OpenTurn() -> impl IntoView {
    let session = use_session();
    let tools =
        Memo::new(move |_| session.played().map(|playback| playback.conversation.tools.clone()).unwrap_or_default());
    let entry = RwSignal::new(Entry::Form);
    let has_called = Memo::new(move |_| {
        session.view.with(|view| view.played.get(view.ended).is_some_and(|steps| !steps.is_empty()))
    });
    let send = Callback::new(move |call: String| {
        session.view.update(|view| {
            let ended = view.ended;
            view.played.resize(ended + 1, Vec::new());
            view.played[ended].push(vec![call]);
            view.position = None;
            view.reach = None;
        });
    });
    let end_turn = move |_| {
        session.view.update(|view| {
            view.played.resize(view.ended + 1, Vec::new());
            view.ended += 1;
            view.position = None;
            view.reach = None;
        });
    };
    let tab = move |this: Entry, words: &'static str| {
        view! {
            <button aria-pressed=move || (entry.get() == this).to_string() on:click=move |_| entry.set(this)>
                {words}
            </button>
        }
    };
    view! {
        <section class="composer" aria-label="Your move">
            <div class="composer-head">
                <p class="composer-words">
                    <strong>"Your move."</strong>
                    " Call a function, or end the turn to answer the user."
                </p>
                <div class="switch" role="group" aria-label="How to enter a call">
                    {tab(Entry::Form, "Form")}
                    {tab(Entry::Text, "Text")}
                </div>
            </div>
            {move || match entry.get() {
                Entry::Form => view! { <CallForm tools send /> }.into_any(),
                Entry::Text => view! { <CallInput tools send /> }.into_any(),
            }}
            <div class="composer-buttons">
                <button id="end-turn" class=move || if has_called.get() { "primary" } else { "" } on:click=end_turn>
                    "End the turn"
                </button>
                <RevealButton />
                <RestartButton />
            </div>
            <Hints />
        </section>
    }
}

/// The solution of the open turn, once revealed.
#[component]
fn Hints() -> impl IntoView {
    let session = use_session();
    move || {
        let (revealed, ended) = session.view.with(|view| (view.revealed, view.ended));
        let task = session.task.get().filter(|_| revealed)?;
        let calls = &task.turns.get(ended)?.ground_truth;
        let words = match calls.len() {
            0 => "The solution of this turn: no call".to_owned(),
            number => format!("The solution of this turn: {}", count(number, "call", "calls")),
        };
        Some(view! {
            <div class="truth">
                <p>{words}</p>
                <ol>{calls.iter().map(|call| view! { <li><code>{highlighted(call)}</code></li> }).collect_view()}</ol>
            </div>
        })
    }
}

/// A function chosen from the list, its parameters as fields.
#[component]
fn CallForm(tools: Memo<Vec<ToolSpec>>, send: Callback<String>) -> impl IntoView {
    let chosen = RwSignal::new(None::<String>);
    let tool = Memo::new(move |_| {
        let name = chosen.get()?;
        tools.with(|tools| tools.iter().find(|tool| tool.name == name).cloned())
    });
    view! {
        <div class="call-form">
            <label class="field">
                <span class="field-name">"Function"</span>
                <select
                    id="tool"
                    on:change=move |event| {
                        chosen.set(Some(event_target_value(&event)).filter(|name| !name.is_empty()));
                    }
                >
                    <option value="">{move || format!("Choose one of {}…", tools.with(Vec::len))}</option>
                    {move || {
                        let mut names: Vec<_> = tools.with(|tools| tools.iter().map(|tool| tool.name.clone()).collect());
                        names.sort_unstable();
                        names
                            .into_iter()
                            .map(|name| view! { <option value=name.clone()>{name.clone()}</option> })
                            .collect_view()
                    }}
                </select>
            </label>
            {move || tool.get().map(|tool| view! { <Parameters tool send /> })}
        </div>
    }
}

#[component]
fn Parameters(tool: ToolSpec, send: Callback<String>) -> impl IntoView {
    let all = fields(&tool);
    let entered = RwSignal::new(vec![String::new(); all.len()]);
    let call = {
        let (name, all) = (tool.name.clone(), all.clone());
        Memo::new(move |_| call_string(&name, &all, &entered.get()))
    };
    let inputs = all.into_iter().enumerate().map(|(index, field)| parameter(index, field, entered)).collect_view();
    // BFCL's docs open with the class's description; the last sentence group is about the function.
    let description = tool.description.rsplit("Tool description:").next().unwrap_or_default().trim().to_owned();
    view! {
        <p class="hint">{description}</p>
        {inputs}
        <div class="call-preview">
            <code id="call-preview">{move || highlighted(&call.get())}</code>
            <button id="send" class="primary" on:click=move |_| send.run(call.get_untracked())>
                <Icon name="send" />
                "Send the call"
            </button>
        </div>
    }
}

fn parameter(index: usize, field: Field, entered: RwSignal<Vec<String>>) -> impl IntoView {
    let set = move |text: String| entered.update(|entered| entered[index] = text);
    let id = format!("parameter-{}", field.name);
    let hint_id = format!("{id}-hint");
    let placeholder = match field.kind {
        Kind::Text | Kind::Choice(_) | Kind::Boolean => "",
        Kind::Number => "0",
        Kind::Literal => "['a', 'b']",
    };
    let input = match field.kind {
        Kind::Boolean | Kind::Choice(_) => {
            let options = match field.kind {
                Kind::Choice(options) => options,
                _ => vec!["True".to_owned(), "False".to_owned()],
            };
            view! {
                <select
                    id=id.clone()
                    aria-describedby=hint_id.clone()
                    on:change=move |event| set(event_target_value(&event))
                >
                    <option value="">"not given"</option>
                    {options
                        .into_iter()
                        .map(|option| view! { <option value=option.clone()>{option.clone()}</option> })
                        .collect_view()}
                </select>
            }
            .into_any()
        }
        Kind::Text | Kind::Number | Kind::Literal => view! {
            <input
                id=id.clone()
                type="text"
                inputmode=if field.kind == Kind::Number { "decimal" } else { "text" }
                placeholder=placeholder
                autocomplete="off"
                aria-describedby=hint_id.clone()
                on:input=move |event| set(event_target_value(&event))
            />
        }
        .into_any(),
    };
    view! {
        <div class="field">
            <label class="field-name" for=id>
                {field.name}
                {field.is_required.then(|| view! { <span class="required" title="required">" *"</span> })}
            </label>
            {input}
            <span class="hint" id=hint_id>{field.description}</span>
        </div>
    }
}

/// A call typed as text, with completion.
#[component]
fn CallInput(tools: Memo<Vec<ToolSpec>>, send: Callback<String>) -> impl IntoView {
    let draft = RwSignal::new(String::new());
    let field = NodeRef::<html::Input>::new();
    let suggestions = Memo::new(move |_| tools.with(|tools| complete(&draft.get(), tools, 8)));
    let submit = move || {
        let call = draft.get_untracked();
        if !call.trim().is_empty() {
            send.run(call);
            draft.set(String::new());
        }
    };
    let choose = move |template: String| {
        draft.set(template);
        if let Some(field) = field.get_untracked() {
            let _ = field.focus();
        }
    };
    view! {
        <div class="call-form">
            <div class="call-preview">
                <input
                    node_ref=field
                    id="call-text"
                    type="text"
                    spellcheck="false"
                    autocomplete="off"
                    autocapitalize="off"
                    aria-label="Call"
                    placeholder="function(parameter='value')"
                    prop:value=draft
                    on:input=move |event| draft.set(event_target_value(&event))
                    on:keydown=move |event| {
                        if event.key() == "Enter" {
                            event.prevent_default();
                            submit();
                        }
                    }
                />
                <button class="primary" on:click=move |_| submit()>
                    <Icon name="send" />
                    "Send the call"
                </button>
            </div>
            <Suggestions suggestions choose=choose />
        </div>
    }
}
