//! The help dialog.

use leptos::html;
use leptos::prelude::*;

use super::keyboard::KEYS;
use super::session::use_session;
use super::shared::Icon;

/// What the page is, how to use it, and its keys.
#[component]
pub fn Help() -> impl IntoView {
    let session = use_session();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move || {
        let (Some(dialog), is_open) = (dialog.get(), session.help.get()) else { return };
        if is_open && !dialog.open() {
            let _ = dialog.show_modal();
        } else if !is_open && dialog.open() {
            dialog.close();
        }
    });
    view! {
        <dialog class="help" node_ref=dialog aria-labelledby="help-title" on:close=move |_| session.help.set(false)>
            <div class="help-head">
                <h2 id="help-title">"What you are looking at"</h2>
                <button class="quiet" aria-label="Close the help" on:click=move |_| session.help.set(false)>
                    <Icon name="close" />
                </button>
            </div>
            <p>
                "A person asks for something over several turns. An agent answers by calling functions of a small simulated
                world: a file system, a car, a trading account and so on. After each turn a checker compares the world, and the
                results the agent has seen, with the right solution (the ground truth)."
            </p>
            <p>
                "The engine runs in this page. Nothing that you do leaves your computer."
            </p>
            <h3>"Three things to try"</h3>
            <ol>
                <li><strong>"Play."</strong>" Follow the calls, and watch the state change beside them."</li>
                <li>
                    <strong>"Edit a call."</strong>" Press the pencil beside a call, change a value, and see which later turn
                    fails, and why."
                </li>
                <li>
                    <strong>"Be the agent."</strong>" Switch to Play the agent: read the request, choose functions, end the turn,
                    and be checked like a model."
                </li>
            </ol>
            <h3>"How to read the marks"</h3>
            <ul class="legend">
                <li><span class="change-mark is-added">"+"</span>" a new value in the state"</li>
                <li><span class="change-mark is-removed">"−"</span>" a value that is gone"</li>
                <li><span class="change-mark is-changed">"~"</span>" a value that changed"</li>
                <li><span class="verdict-mark is-pass">"✓"</span>" a turn that passed the check"</li>
                <li><span class="verdict-mark is-fail">"✗"</span>" a turn that failed it"</li>
                <li><span class="verdict-mark is-unchecked">"–"</span>" a turn in which calling nothing is right"</li>
            </ul>
            <h3>"Keys"</h3>
            <dl class="keys">
                {KEYS
                    .into_iter()
                    .map(|(keys, meaning)| {
                        let keys = keys.split("  ").map(|key| view! { <kbd>{key}</kbd> }).collect_view();
                        view! {
                            <div>
                                <dt>{keys}</dt>
                                <dd>{meaning}</dd>
                            </div>
                        }
                    })
                    .collect_view()}
            </dl>
            <h3>"More tasks"</h3>
            <p>
                "Drop files onto the page: the wheel of "<code>"bfcl-eval 2026.3.23"</code>" (all 800 tasks of the Berkeley
                Function-Calling Leaderboard's multi-turn part), your own tasks, or trajectories of a model as lines of "
                <code>"{\"id\": …, \"turns\": [[[\"call()\"]]]}"</code>"."
            </p>
        </dialog>
    }
}
