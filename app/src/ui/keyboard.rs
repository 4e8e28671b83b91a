//! Keys that work anywhere on the page, unless a field is being typed in.

use leptos::ev;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use web_sys::{Element, HtmlElement};

use super::address::other_theme;
use super::session::Session;
use crate::moments::{next_turn, previous_turn};

/// The keys and what they do, for the help.
pub const KEYS: [(&str, &str); 9] = [
    ("Space", "Play or pause"),
    ("→  ←", "One call forward or back"),
    ("Shift →  Shift ←", "Next or previous turn"),
    ("Home  End", "Beginning or end"),
    ("/", "Search the tasks"),
    ("t", "Light or dark"),
    ("?", "This help"),
    ("Enter", "Keep an edited call"),
    ("Esc", "Undo it, or close what is open"),
];

/// Starts listening.
pub fn listen(session: Session) {
    let listener = window_event_listener(ev::keydown, move |event| {
        let key = event.key();
        if key == "Escape" && session.drawer.get_untracked() {
            return session.drawer.set(false);
        }
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        let is_inside =
            |selector: &str| target.as_ref().is_some_and(|element| element.closest(selector).ok().flatten().is_some());
        let is_field = is_inside("input, textarea, select, dialog, [contenteditable]");
        let is_pressable = is_inside("button, a, summary");
        if is_field || event.ctrl_key() || event.meta_key() || event.alt_key() || session.help.get_untracked() {
            return;
        }
        let position = session.position.get_untracked();
        match key.as_str() {
            " " if !is_pressable => super::player::toggle(session),
            "ArrowRight" if event.shift_key() => {
                session.go_to(session.moments.with_untracked(|moments| next_turn(moments, position)));
            }
            "ArrowLeft" if event.shift_key() => {
                session.go_to(session.moments.with_untracked(|moments| previous_turn(moments, position)));
            }
            "ArrowRight" => session.go_by(1),
            "ArrowLeft" => session.go_by(-1),
            "Home" => session.go_to(0),
            "End" => session.go_to(session.moments.with_untracked(Vec::len).saturating_sub(1)),
            "?" => session.help.set(true),
            "t" => session.view.update(|view| view.theme = Some(other_theme(view.theme))),
            "/" => {
                session.drawer.set(true);
                request_animation_frame(|| {
                    let field = document().get_element_by_id("search");
                    if let Some(field) = field.and_then(|field| field.dyn_into::<HtmlElement>().ok()) {
                        let _ = field.focus();
                    }
                });
            }
            _ => return,
        }
        event.prevent_default();
    });
    on_cleanup(move || listener.remove());
}
