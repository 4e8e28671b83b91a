//! The page: watch, edit and play multi-turn function-calling conversations, with the engine in WebAssembly.
//!
//! The pure modules (the view and its URL, the timeline, the state tree, imports, …) compile everywhere and are tested
//! natively; [`ui`] is leptos and exists in the browser only.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

mod call_text;
mod form;
mod import;
mod library;
mod moments;
mod results;
mod state_tree;
#[cfg(target_arch = "wasm32")]
mod ui;
mod view;

#[cfg(target_arch = "wasm32")]
fn main() {
    ui::start();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("This is the page. Build and serve it with `cargo xtask up`.");
    std::process::exit(2);
}
