//! The top of the page.

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen_futures::JsFuture;

use super::address::{link, other_theme};
use super::files::FileButton;
use super::session::use_session;
use super::shared::{Icon, Notice};

/// Name, one line of explanation, and what concerns the whole page.
#[component]
pub fn Header() -> impl IntoView {
    let session = use_session();
    let copy = move |_| {
        let address = session.view.with_untracked(link);
        spawn_local(async move {
            let copied = JsFuture::from(window().navigator().clipboard().write_text(&address)).await;
            session.notify(match copied {
                Ok(_) => Notice::info("The link to this view is in the clipboard."),
                Err(_) => Notice::error(format!("The browser does not allow copying. The link is {address}")),
            });
        });
    };
    view! {
        <header class="top">
            <button
                class="quiet only-narrow"
                aria-label="Tasks"
                aria-expanded=move || session.drawer.get().to_string()
                aria-controls="tasks"
                on:click=move |_| session.drawer.update(|open| *open = !*open)
            >
                <Icon name="list" />
            </button>
            <div class="brand">
                <h1>"parl-mt"</h1>
                <p>"Watch an agent call functions turn by turn. Change any call and see what breaks."</p>
            </div>
            <div class="top-tools">
                <FileButton />
                <button class="quiet" title="Copy a link to this view" on:click=copy>
                    <Icon name="link" />
                    <span class="label">"Copy link"</span>
                </button>
                <button
                    class="quiet"
                    title="Light or dark (t)"
                    aria-label="Switch between light and dark"
                    on:click=move |_| session.view.update(|view| view.theme = Some(other_theme(view.theme)))
                >
                    <Icon name="theme" />
                </button>
                <button class="quiet" title="Help (?)" aria-label="Help" on:click=move |_| session.help.set(true)>
                    <Icon name="help" />
                </button>
            </div>
        </header>
    }
}
