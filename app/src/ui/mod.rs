//! The user interface. Components read one [`Session`]; everything that a visitor can change is in its view.

mod address;
mod agent;
mod call;
mod conversation;
mod files;
mod header;
mod help;
mod keyboard;
mod player;
mod session;
mod shared;
mod sources;
mod state;
mod tasks;
mod verdict;

use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use web_sys::HtmlElement;

use session::Session;

/// Puts the page in place of the skeleton that index.html shows while loading.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        leptos::logging::error!("{panic}");
        if let Some(failure) = document().get_element_by_id("failure") {
            let _ = failure.remove_attribute("hidden");
        }
    }));
    let root = document().get_element_by_id("app").and_then(|element| element.dyn_into::<HtmlElement>().ok());
    let root = root.expect("index.html has an element with the id app");
    root.set_inner_html("");
    leptos::mount::mount_to(root, Page).forget();
    let _ = document().body().map(|body| body.set_attribute("data-ready", "true"));
}

#[component]
fn Page() -> impl IntoView {
    let session = Session::new();
    provide_context(session);
    address::follow(session);
    sources::load(session);
    player::run(session);
    keyboard::listen(session);
    files::listen(session);

    view! {
        <a class="skip" href="#conversation">"Skip to the conversation"</a>
        <header::Header />
        <shared::Notices />
        <div class="columns" class:is-showing-state=move || session.shows_state.get()>
            <tasks::TaskList />
            <conversation::ConversationPane />
            <state::StatePane />
        </div>
        <help::Help />
        <files::DropHint />
    }
}
