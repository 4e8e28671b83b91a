//! The page. A placeholder until the real one lands.

use leptos::prelude::*;

fn main() {
    leptos::mount::mount_to_body(|| {
        let (count, set_count) = signal(0);
        view! {
            <main>
                <h1>"parl-mt"</h1>
                <button on:click=move |_| set_count.update(|count| *count += 1)>"Steps: " {count}</button>
            </main>
        }
    });
}
