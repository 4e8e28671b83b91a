//! The URL follows the view, and the view follows Back and Forward.

use std::time::Duration;

use leptos::ev;
use leptos::leptos_dom::helpers::TimeoutHandle;
use leptos::prelude::*;
use wasm_bindgen::JsValue;

use super::session::Session;
use crate::view::{Theme, View};

/// Details are written after a pause: browsers allow few history calls a second.
const DETAIL_PAUSE: Duration = Duration::from_millis(200);
const THEME_KEY: &str = "parl-mt theme";

/// Keeps URL and view together, and applies the theme.
pub fn follow(session: Session) {
    if session.view.with_untracked(|view| view.theme.is_none()) {
        session.view.update(|view| view.theme = remembered_theme());
    }
    let shown = StoredValue::new(session.view.get_untracked());
    let pending = StoredValue::new(None::<TimeoutHandle>);
    Effect::new(move || {
        let next = session.view.get();
        let previous = shown.get_value();
        if next == previous {
            return;
        }
        if let Some(handle) = pending.try_update_value(Option::take).flatten() {
            handle.clear();
        }
        if previous.is_new_place(&next) && !session.is_typing.get_value() {
            write(&previous, false);
            write(&next, true);
            shown.set_value(next);
        } else {
            shown.set_value(next);
            let handle = set_timeout_with_handle(move || write(&shown.get_value(), false), DETAIL_PAUSE);
            pending.set_value(handle.ok());
        }
    });
    let listener = window_event_listener(ev::popstate, move |_| {
        let view = View::from_query(&location().search().unwrap_or_default());
        shown.set_value(view.clone());
        session.playing.set(false);
        session.editing.set(None);
        session.view.set(view);
    });
    on_cleanup(move || listener.remove());
    let theme = Memo::new(move |_| session.view.with(|view| view.theme));
    Effect::new(move || apply_theme(theme.get()));
}

/// The page's address with the whole view in it.
pub fn link(view: &View) -> String {
    let address = location();
    let (origin, path) = (address.origin().unwrap_or_default(), address.pathname().unwrap_or_default());
    let query = view.to_query();
    if query.is_empty() { format!("{origin}{path}") } else { format!("{origin}{path}?{query}") }
}

fn write(view: &View, is_new_entry: bool) {
    let Ok(history) = window().history() else { return };
    let address = link(view);
    // A browser that refuses (too many calls) only leaves the URL behind the view.
    let _ = if is_new_entry {
        history.push_state_with_url(&JsValue::NULL, "", Some(&address))
    } else {
        history.replace_state_with_url(&JsValue::NULL, "", Some(&address))
    };
}

/// The other theme than the one on show.
pub fn other_theme(theme: Option<Theme>) -> Theme {
    let is_dark = match theme {
        Some(theme) => theme == Theme::Dark,
        None => {
            let query = window().match_media("(prefers-color-scheme: dark)");
            query.ok().flatten().is_some_and(|query| query.matches())
        }
    };
    if is_dark { Theme::Light } else { Theme::Dark }
}

fn apply_theme(theme: Option<Theme>) {
    let Some(root) = document().document_element() else { return };
    let name = match theme {
        None => return drop(root.remove_attribute("data-theme")),
        Some(Theme::Light) => "light",
        Some(Theme::Dark) => "dark",
    };
    let _ = root.set_attribute("data-theme", name);
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.set_item(THEME_KEY, name);
    }
}

fn remembered_theme() -> Option<Theme> {
    let storage = window().local_storage().ok().flatten()?;
    match storage.get_item(THEME_KEY).ok().flatten()?.as_str() {
        "light" => Some(Theme::Light),
        "dark" => Some(Theme::Dark),
        _ => None,
    }
}
