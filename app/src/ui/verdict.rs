//! What the checker says, in words.

use leptos::prelude::*;
use parl_mt::diff::diff;
use parl_mt::task::TaskSpec;
use parl_mt::trace::{ErrorType, StateDifference, TurnVerdict, Verdict};

use super::session::use_session;
use super::shared::{count, highlighted};
use crate::moments::Moment;
use crate::results::inline;
use crate::state_tree::simplify;
use crate::view::Mode;

/// Stands before the part of a verdict that a narrow page leaves out.
const DETAIL: &str = ", ";
/// More differing places than this are only counted.
const MAX_DIFFERENCES: usize = 12;

/// The overall verdict, always in sight and read out when it changes.
#[component]
pub fn OverallVerdict() -> impl IntoView {
    let session = use_session();
    let summary = Memo::new(move |_| {
        let (task, playback) = (session.task.get()?, session.played()?);
        Some(match &playback.verdict {
            Some(verdict) => (Some(verdict.valid), overall_words(&task, verdict, &playback.turn_verdicts)),
            None => {
                let passed = playback.turn_verdicts.iter().filter(|verdict| verdict.valid).count();
                let ended = playback.turn_verdicts.len();
                let words = if ended == 0 { "Your turn".into() } else { format!("{passed} of {ended} turns passed") };
                (None, words)
            }
        })
    });
    view! {
        <p
            id="verdict"
            class=move || match summary.get() {
                Some((Some(true), _)) => "overall is-pass",
                Some((Some(false), _)) => "overall is-fail",
                _ => "overall",
            }
            role="status"
            aria-live="polite"
        >
            {move || {
                summary
                    .get()
                    .map(|(valid, words)| {
                        let mark = valid.map(|valid| if valid { "✓" } else { "✗" });
                        let (main, detail) = match words.split_once(DETAIL) {
                            Some((main, detail)) => (main.to_owned(), Some(detail.to_owned())),
                            None => (words, None),
                        };
                        view! {
                            {mark.map(|mark| view! { <span class="mark" aria-hidden="true">{mark}</span> })}
                            <span>
                                {main}
                                {detail.map(|detail| view! { <span class="label">{DETAIL} {detail}</span> })}
                            </span>
                        }
                    })
            }}
        </p>
    }
}

fn overall_words(task: &TaskSpec, verdict: &Verdict, turns: &[TurnVerdict]) -> String {
    let total = task.turns.len();
    if verdict.valid {
        return format!("Passed: all {}", count(total, "turn", "turns"));
    }
    let failed = turns.iter().filter(|verdict| !verdict.valid).count();
    match (verdict.error_type, verdict.turn) {
        (Some(ErrorType::ForceTerminated), _) => "Failed: not as many turns as the task".into(),
        (_, Some(turn)) if failed > 1 => format!("Failed: {failed} of {total} turns{DETAIL}first turn {}", turn + 1),
        (_, Some(turn)) => format!("Failed in turn {}", turn + 1),
        _ => "Failed".into(),
    }
}

/// The verdict of a turn, at its end.
#[component]
pub fn TurnVerdictView(
    /// Which turn.
    turn: usize,
) -> impl IntoView {
    let session = use_session();
    let verdict = Memo::new(move |_| session.played().and_then(|playback| playback.turn_verdicts.get(turn).cloned()));
    let is_current =
        Memo::new(move |_| matches!(session.moment(), Some(Moment::TurnChecked { turn: t, .. }) if t == turn));
    let select = move |_| {
        session.select(|moment| matches!(moment, Moment::TurnChecked { turn: t, .. } if *t == turn));
    };
    view! {
        {move || {
            verdict
                .get()
                .map(|verdict| {
                    let (class, mark) = match &verdict {
                        TurnVerdict { unchecked: true, .. } => ("verdict is-unchecked", "–"),
                        TurnVerdict { valid: true, .. } => ("verdict is-pass", "✓"),
                        _ => ("verdict is-fail", "✗"),
                    };
                    let shows_truth = session.shows_truth();
                    let heading = heading(&verdict, shows_truth);
                    let truth = truth_calls(turn);
                    view! {
                        <section
                            class=class
                            data-turn=turn
                            data-current=move || is_current.get().then_some("")
                            aria-label=format!("Verdict of turn {}", turn + 1)
                        >
                            <button class="verdict-line" title="Show what this turn changed" on:click=select>
                                <span class="verdict-mark" aria-hidden="true">{mark}</span>
                                <span>{heading}</span>
                            </button>
                            {shows_truth.then(|| details(&verdict))}
                            {shows_truth.then_some(truth)}
                        </section>
                    }
                })
        }}
    }
}

fn heading(verdict: &TurnVerdict, shows_truth: bool) -> String {
    match verdict.error_type {
        _ if verdict.unchecked && !shows_truth => "Turn ended.".into(),
        _ if verdict.unchecked => {
            "Not checked: here the right thing is to call nothing, and to ask or wait instead.".into()
        }
        None => "Passed: the state is right and every needed result was seen.".into(),
        Some(ErrorType::EmptyTurnModelResponse) => "Failed: no call was made, although this turn needs some.".into(),
        Some(ErrorType::InstanceStateMismatch) => match verdict.differences.first() {
            Some(first) => format!("Failed: the state of {} is not as it should be.", first.class),
            None => "Failed: the state is not as it should be.".into(),
        },
        Some(ErrorType::ExecutionResponseMismatch) => {
            let missing = count(verdict.missing_results.len(), "needed result was", "needed results were");
            format!("Failed: the state is right, but {missing} never seen.")
        }
        Some(ErrorType::ForceTerminated) => "Failed: the conversation was cut off.".into(),
    }
}

/// The reason of a failure: what differs, what is missing.
fn details(verdict: &TurnVerdict) -> impl IntoView + use<> {
    let missing = (!verdict.missing_results.is_empty()).then(|| {
        view! {
            <div class="reason">
                <h4>"Results never seen"</h4>
                <ul class="missing">
                    {verdict
                        .missing_results
                        .iter()
                        .map(|result| view! { <li><code>{crate::results::shorten(result, 300)}</code></li> })
                        .collect_view()}
                </ul>
            </div>
        }
    });
    let rows: Vec<_> = verdict.differences.iter().flat_map(places).collect();
    let more = rows.len().saturating_sub(MAX_DIFFERENCES);
    let differences = (!rows.is_empty()).then(|| {
        view! {
            <div class="reason" tabindex="0" role="group" aria-label="What differs">
                <table class="differences">
                    <thead>
                        <tr><th scope="col">"Where"</th><th scope="col">"Here"</th><th scope="col">"Should be"</th></tr>
                    </thead>
                    <tbody>
                        {rows
                            .into_iter()
                            .take(MAX_DIFFERENCES)
                            .map(|(place, here, wanted)| {
                                view! {
                                    <tr>
                                        <th scope="row">{place}</th>
                                        <td><code>{here}</code></td>
                                        <td><code>{wanted}</code></td>
                                    </tr>
                                }
                            })
                            .collect_view()}
                    </tbody>
                </table>
                {(more > 0).then(|| view! { <p class="hint">"and " {count(more, "more place", "more places")}</p> })}
            </div>
        }
    });
    (missing, differences)
}

/// The places within an attribute that differ: where, what is there, what should be.
fn places(difference: &StateDifference) -> Vec<(String, String, String)> {
    let show = |value: Option<&serde_json::Value>| value.map_or("(nothing)".into(), |value| inline(value, 120));
    diff(&simplify(&difference.model), &simplify(&difference.ground_truth))
        .into_iter()
        .map(|change| {
            let place = std::iter::once(&difference.attribute).chain(&change.path).cloned().collect::<Vec<_>>();
            (place.join(" › "), show(change.before.as_ref()), show(change.after.as_ref()))
        })
        .collect()
}

/// The right calls of a turn, folded; only where what is shown is not the ground truth itself.
fn truth_calls(turn: usize) -> impl IntoView {
    let session = use_session();
    let differs = move || {
        session.view.with(|view| match view.mode {
            Mode::Watch => view.edits.contains_key(&turn),
            Mode::Play => true,
        })
    };
    move || {
        let task = session.task.get().filter(|_| differs())?;
        let calls = &task.turns.get(turn)?.ground_truth;
        let words = match calls.len() {
            0 => "Ground truth: no call".to_owned(),
            number => format!("Ground truth: {}", count(number, "call", "calls")),
        };
        Some(view! {
            <details class="truth">
                <summary>{words}</summary>
                <ol>{calls.iter().map(|call| view! { <li><code>{highlighted(call)}</code></li> }).collect_view()}</ol>
            </details>
        })
    }
}
