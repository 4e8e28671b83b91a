//! `parl serve`: the page and BFCL's tasks, on this machine only.
//!
//! Binds 127.0.0.1 and answers only requests that name this machine as their host (a page elsewhere cannot reach it by
//! DNS rebinding). Files come from the bundle's folder alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use clap::Args;
use parl_mt::env::bfcl::BfclData;
use parl_mt::task::TaskSummary;
use sha2::{Digest as _, Sha256};
use tower_http::services::{ServeDir, ServeFile};
use tower_http::set_header::SetResponseHeaderLayer;

use super::data_folder::DataFolder;

/// How to serve.
#[derive(Args)]
#[command(after_help = "\
Examples:
  parl serve                      serve ./dist on http://127.0.0.1:8080
  parl serve --port 9000 --open   on another port, and open the browser")]
pub struct Arguments {
    /// The page's bundle, made by `cargo xtask bundle` or `trunk build`
    #[arg(long, value_name = "DIR", default_value = "dist")]
    dist: PathBuf,
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Everything comes from our own files. Wasm needs 'wasm-unsafe-eval'; the bundle's one inline script, which starts the
/// page, is allowed by its hash.
fn content_security_policy(index: &str) -> String {
    let hashes: String = inline_scripts(index)
        .map(|script| format!(" 'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script))))
        .collect();
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{hashes}; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The texts of the scripts that stand in the page itself.
fn inline_scripts(index: &str) -> impl Iterator<Item = &str> {
    index.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (text, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(text)
    })
}

#[derive(Clone)]
struct Served {
    folder: DataFolder,
    data: Option<Arc<BfclData>>,
}

/// Serves until interrupted.
pub fn run(arguments: &Arguments, folder: &DataFolder) -> anyhow::Result<()> {
    if !arguments.dist.join("index.html").is_file() {
        bail!(
            "there is no page in {}: make it with `cargo xtask bundle`, or name its folder with --dist",
            arguments.dist.display()
        );
    }
    let data = if folder.has_bfcl() { Some(Arc::new(folder.load_bfcl()?)) } else { None };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(arguments, Served { folder: folder.clone(), data }))
}

async fn serve(arguments: &Arguments, served: Served) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be used: another program may hold it; try --port {}", address.port().wrapping_add(1))
    })?;
    let url = format!("http://{}", listener.local_addr()?);
    match &served.data {
        Some(data) => println!("Serving {url} with {} BFCL tasks. Stop with Ctrl-C.", data.tasks.len()),
        None => println!("Serving {url}. Stop with Ctrl-C. (`parl bfcl fetch` adds BFCL's tasks.)"),
    }
    if arguments.open {
        open_browser(&url);
    }
    axum::serve(listener, router(&arguments.dist, served))
        .with_graceful_shutdown(async {
            // Without a way to hear of Ctrl-C, serve until killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(())
}

fn router(dist: &std::path::Path, served: Served) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    // Routes of the page are the page's own business: unknown paths get its index.
    let files = ServeDir::new(dist).fallback(ServeFile::new(dist.join("index.html")));
    Router::new()
        .route("/api/status", get(status))
        .route("/api/bfcl/tasks", get(tasks))
        .route("/api/bfcl/tasks/{id}", get(task))
        .route("/api/bfcl/long_context.py", get(long_context))
        .route("/api/{*rest}", get(async || (StatusCode::NOT_FOUND, "there is no such request\n")))
        .with_state(served)
        .fallback_service(files)
        .layer(middleware::from_fn_with_state(dist.join("index.html"), own_files_only))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::CACHE_CONTROL, "no-cache"))
        .layer(middleware::from_fn(own_host_only))
}

/// Adds the policy of the page as it is now: the bundle may be built anew while it is served.
async fn own_files_only(State(index): State<PathBuf>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let index = tokio::fs::read_to_string(index).await.unwrap_or_default();
    let policy = HeaderValue::from_str(&content_security_policy(&index)).expect("hashes and words are ASCII");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn own_host_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if matches!(name, "127.0.0.1" | "localhost") {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "only http://127.0.0.1 and http://localhost are answered\n").into_response()
    }
}

async fn status(State(served): State<Served>) -> Json<serde_json::Value> {
    Json(serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "bfcl": served.data.is_some()}))
}

/// What to answer where no data has been fetched.
const NO_DATA: (StatusCode, &str) =
    (StatusCode::NOT_FOUND, "BFCL's data has not been fetched: run `parl bfcl fetch` and start again\n");

async fn tasks(State(served): State<Served>) -> Response {
    let Some(data) = served.data else { return NO_DATA.into_response() };
    Json(data.tasks.iter().map(TaskSummary::from).collect::<Vec<_>>()).into_response()
}

async fn task(State(served): State<Served>, Path(id): Path<String>) -> Response {
    let Some(data) = served.data else { return NO_DATA.into_response() };
    match data.task(&id) {
        Some(task) => Json(task).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such task\n").into_response(),
    }
}

async fn long_context(State(served): State<Served>) -> Response {
    if served.data.is_none() {
        return NO_DATA.into_response();
    }
    let text = served.folder.read_bfcl_file(parl_mt::env::bfcl::data::LONG_CONTEXT_FILE);
    text.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))).into_response()
}

/// Opens the page in the user's browser; where that does not work, the address is on the screen anyway.
fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(target_os = "windows") {
        "explorer"
    } else {
        "xdg-open"
    };
    if let Err(error) = std::process::Command::new(program).arg(url).spawn() {
        eprintln!("The browser did not open ({program}: {error}); go to {url}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_are_allowed_by_hash_alone() {
        let index = "<script src=\"a.js\"></script><script type=\"module\">x</script>";
        let policy = content_security_policy(index);
        // printf x | openssl dgst -sha256 -binary | base64
        assert!(
            policy.contains(
                "script-src 'self' 'wasm-unsafe-eval' 'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE='; "
            ),
            "{policy}"
        );
        assert!(!policy.contains("unsafe-inline"), "{policy}");
    }
}
