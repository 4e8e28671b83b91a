//! Small pieces that several parts use.

use leptos::prelude::*;

use super::session::use_session;
use crate::call_text::{Suggestion, Token, tokens};

/// A message to the visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether something went wrong.
    pub is_error: bool,
    /// What to say.
    pub text: String,
}

impl Notice {
    /// Something happened as wished.
    pub fn info(text: impl Into<String>) -> Self {
        Self { is_error: false, text: text.into() }
    }

    /// Something went wrong.
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, text: text.into() }
    }
}

/// Functions that fit what has been typed; choosing one gives its template.
#[component]
pub fn Suggestions(
    suggestions: Memo<Vec<Suggestion>>,
    choose: impl Fn(String) + Copy + Send + 'static,
) -> impl IntoView {
    view! {
        <div class="suggestions" role="group" aria-label="Functions">
            {move || {
                suggestions
                    .get()
                    .into_iter()
                    .map(|one| {
                        view! {
                            <button class="chip" title=one.description on:click=move |_| choose(one.template.clone())>
                                {one.name}
                            </button>
                        }
                    })
                    .collect_view()
            }}
        </div>
    }
}

/// Messages, each with a button to dismiss it.
#[component]
pub fn Notices() -> impl IntoView {
    let session = use_session();
    view! {
        <div class="notices" role="status" aria-live="polite">
            <For each=move || session.notices.get() key=|notice| notice.text.clone() let:notice>
                <div class="notice" class:is-error=notice.is_error>
                    <span class="notice-mark" aria-hidden="true">{if notice.is_error { "!" } else { "i" }}</span>
                    <p>{notice.text.clone()}</p>
                    <button
                        class="quiet"
                        aria-label="Dismiss this message"
                        on:click=move |_| session.notices.update(|all| all.retain(|one| one.text != notice.text))
                    >
                        <Icon name="close" />
                    </button>
                </div>
            </For>
        </div>
    }
}

/// A call string with its parts coloured.
pub fn highlighted(text: &str) -> impl IntoView + use<> {
    tokens(text)
        .into_iter()
        .map(|(token, piece)| {
            let class = match token {
                Token::Name => "token-name",
                Token::Key => "token-key",
                Token::Text => "token-text",
                Token::Number => "token-number",
                Token::Constant => "token-constant",
                Token::Plain => "token-plain",
            };
            view! { <span class=class>{piece.to_owned()}</span> }
        })
        .collect_view()
}

/// A line icon, drawn in the colour of the text.
#[component]
pub fn Icon(name: &'static str) -> impl IntoView {
    let path = match name {
        "play" => "M7 4.5v15l12-7.5z",
        "pause" => "M8 5v14M16 5v14",
        "back" => "M17 5.5v13L8 12zM6 5v14",
        "step" => "M7 5.5v13L16 12zM18 5v14",
        "reset" => "M4.5 12a7.5 7.5 0 1 0 2.4-5.5M4.5 4.5v4h4",
        "edit" => "M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
        "delete" => "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13M10.5 10.5v6M13.5 10.5v6",
        "add" => "M12 5v14M5 12h14",
        "close" => "M6 6l12 12M18 6L6 18",
        "list" => "M4 6h16M4 12h16M4 18h10",
        "file" => "M12 16V4M7.5 8.5L12 4l4.5 4.5M4 15v4.5h16V15",
        "link" => "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.7-5.7L12 7M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.7 5.7L12 17",
        "theme" => "M12 3.5a8.5 8.5 0 1 0 8.5 8.5A6.5 6.5 0 0 1 12 3.5z",
        "search" => "M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13zM15.5 15.5L20 20",
        "send" => "M4 12h15M13 6l6 6-6 6",
        _ => "M12 17.5v.5M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4",
    };
    view! {
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <path d=path />
        </svg>
    }
}

/// Whether the visitor asked for less motion.
pub fn prefers_less_motion() -> bool {
    let query = window().match_media("(prefers-reduced-motion: reduce)");
    query.ok().flatten().is_some_and(|query| query.matches())
}

/// The thing or things, with their number.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
