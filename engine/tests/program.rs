//! The program `parl` as a user meets it: words when data is missing or wrong, and a server that keeps to itself.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder of one test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("parl-program-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn parl(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parl"))
        .args(arguments)
        .env("PARL_DATA", data)
        .stdin(Stdio::null())
        .output()
        .expect("parl starts")
}

fn failure(data: &Path, arguments: &[&str]) -> String {
    let output = parl(data, arguments);
    assert!(!output.status.success(), "{arguments:?} should fail");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn missing_data_says_how_to_get_it() {
    let folder = Folder::new("missing");
    for arguments in [&["bfcl", "list"][..], &["bfcl", "replay"], &["bfcl", "show", "multi_turn_base_0"]] {
        let error = failure(&folder.0, arguments);
        assert!(error.contains("parl bfcl fetch"), "{error}");
    }
}

#[test]
fn a_wrong_wheel_is_refused_and_nothing_is_stored() {
    let folder = Folder::new("wheel");
    let text = folder.write("text.whl", b"not a zip archive");
    let error = failure(&folder.0, &["bfcl", "fetch", "--wheel", text.to_str().unwrap()]);
    assert!(error.contains("not a wheel") && error.contains("pip download"), "{error}");
    // The end-of-central-directory record alone is an empty but well-formed archive.
    let mut empty_zip = b"PK\x05\x06".to_vec();
    empty_zip.extend([0; 18]);
    let zip = folder.write("empty.whl", &empty_zip);
    let error = failure(&folder.0, &["bfcl", "fetch", "--wheel", zip.to_str().unwrap()]);
    assert!(error.contains("sha256"), "{error}");
    let absent = failure(&folder.0, &["bfcl", "fetch", "--wheel", "/nowhere/bfcl.whl"]);
    assert!(absent.contains("/nowhere/bfcl.whl"), "{absent}");
    assert!(!folder.0.join("bfcl").exists());
}

#[test]
fn schemas_are_printed_for_every_file_format() {
    let folder = Folder::new("schema");
    let output = parl(&folder.0, &["schema"]);
    let schemas: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["Trace", "TaskSpec", "Conversation", "EpisodeEvent", "TrajectoryLine", "ScoreLine"] {
        assert!(schemas[name]["$schema"].is_string(), "{name}");
    }
}

/// A running server; stopped when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Folder) -> Self {
        let dist = folder.0.join("dist");
        std::fs::create_dir_all(&dist).unwrap();
        std::fs::write(dist.join("index.html"), "<h1>the page</h1>").unwrap();
        std::fs::write(dist.join("app.js"), "// script").unwrap();
        folder.write("secret.txt", b"outside of dist");
        let mut process = Command::new(env!("CARGO_BIN_EXE_parl"))
            .args(["serve", "--port", "0", "--dist"])
            .arg(&dist)
            .env("PARL_DATA", &folder.0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("parl starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("the server tells its address");
        let port = address.trim_end_matches('.').rsplit(':').next().unwrap().parse().unwrap();
        Self { process, port }
    }

    fn get(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn own_host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; that shows elsewhere.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_server_serves_the_page_and_nothing_else() {
    let folder = Folder::new("serve");
    let server = Server::start(&folder);
    let host = server.own_host();
    let page = server.get("/", &host);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("the page"), "{page}");
    let lower = page.to_lowercase();
    assert!(lower.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(lower.contains("x-content-type-options: nosniff"), "{page}");
    assert!(server.get("/app.js", &host).contains("// script"));
    assert!(server.get("/explore?task=x", &host).contains("the page"), "routes of the page get its index");
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//secret.txt"] {
        assert!(!server.get(path, &host).contains("outside of dist"), "{path}");
    }
    let status = server.get("/api/status", &host);
    assert!(status.contains("\"bfcl\":false"), "{status}");
    let tasks = server.get("/api/bfcl/tasks", &host);
    assert!(tasks.starts_with("HTTP/1.1 404") && tasks.contains("parl bfcl fetch"), "{tasks}");
    assert!(server.get("/api/nothing", &host).starts_with("HTTP/1.1 404"));
}

#[test]
fn the_server_answers_this_machine_only() {
    let folder = Folder::new("host");
    let server = Server::start(&folder);
    assert!(server.get("/", "localhost:1").starts_with("HTTP/1.1 200"));
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""] {
        assert!(server.get("/api/status", host).starts_with("HTTP/1.1 403"), "{host}");
    }
}

#[test]
fn a_missing_bundle_says_how_to_make_it() {
    let folder = Folder::new("bundle");
    let error = failure(&folder.0, &["serve", "--dist", "/nowhere"]);
    assert!(error.contains("cargo xtask bundle"), "{error}");
}
