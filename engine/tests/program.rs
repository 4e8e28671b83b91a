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

/// `parl train`, `parl runs` and `parl devices`.
#[cfg(feature = "tensor")]
mod training {
    use super::*;

    fn success(folder: &Folder, arguments: &[&str]) -> String {
        let output = parl(&folder.0, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    const CONFIG: &str = "\
method = \"grpo\"

[data]
task = \"addition\"

[grpo]
num_generations = 4
batch_size = 16
";

    #[test]
    fn a_dry_run_prints_a_configuration_and_what_it_amounts_to() {
        let folder = Folder::new("dry-run");
        let file = folder.write("config.toml", CONFIG.as_bytes());
        let file = file.to_str().unwrap();
        let text = success(&folder, &["train", "--config", file, "--dry-run", "grpo.beta=0.04", "--device", "flex"]);
        assert!(text.contains(" parameters, with "), "{text}");
        assert!(text.contains("# 200 steps of up to 4,096 tokens (16 completions, and their prompts)\n"), "{text}");
        assert!(text.contains("# device: flex (CPU, ") && text.contains("; asked for\n"), "{text}");
        assert!(text.contains("# folder: runs/grpo-addition-nano-seed0\n"), "{text}");
        assert!(text.contains("beta = 0.04\n") && text.contains("epsilon_high = 0.2\n"), "{text}");
        // What is printed is a configuration that comes to the same.
        let again = folder.write("again.toml", text.as_bytes());
        assert_eq!(success(&folder, &["train", "-c", again.to_str().unwrap(), "--dry-run"]), text);
        assert!(!folder.0.join("runs").exists(), "nothing is written");
    }

    #[test]
    fn a_configuration_can_be_given_in_words_alone() {
        let folder = Folder::new("words");
        let text = success(&folder, &["train", "--dry-run", "data.task=copy", "model.preset=micro", "sft.max_steps=5"]);
        assert!(text.contains("method = \"sft\"") && text.contains("preset = \"micro\""), "{text}");
        assert!(text.contains("warmup_steps = 5\n"), "a short run has a short warm-up: {text}");
    }

    #[test]
    fn mistakes_in_a_configuration_are_told_with_line_and_nearest_name() {
        let folder = Folder::new("mistakes");
        let file = folder.write("config.toml", format!("{CONFIG}epsilonhigh = 0.3\nbeta = \"x\"\n").as_bytes());
        let file = file.to_str().unwrap();
        let error = failure(&folder.0, &["train", "--config", file, "--dry-run", "model.presett=nano"]);
        assert!(
            error.contains(&format!("unknown key `grpo.epsilonhigh` at {file}:9; did you mean `epsilon_high`?")),
            "{error}"
        );
        assert!(error.contains(&format!("`grpo.beta` at {file}:10 is the string \"x\"; it takes a number")), "{error}");
        assert!(
            error.contains("unknown key `model.presett` in `model.presett=nano`; did you mean `preset`?"),
            "{error}"
        );
        let absent = failure(&folder.0, &["train", "--config", "/nowhere.toml"]);
        assert!(absent.contains("/nowhere.toml does not read"), "{absent}");
        let nothing = failure(&folder.0, &["train", "--dry-run"]);
        assert!(nothing.contains("`data.task` (not given): set it to copy or addition"), "{nothing}");
        let resumed = failure(&folder.0, &["train", "--resume", folder.0.to_str().unwrap()]);
        assert!(resumed.contains("is not the folder of a run: there is no run.json in it"), "{resumed}");
        let model = failure(&folder.0, &["train", "--dry-run", "data.task=copy", "model.path=nowhere"]);
        assert!(model.contains("nowhere/config.json of model.path does not read"), "{model}");
    }

    #[test]
    fn options_are_explained() {
        let folder = Folder::new("options");
        let all = success(&folder, &["train", "--options"]);
        let grpo = success(&folder, &["train", "--options", "grpo"]);
        assert!(all.contains(&grpo) && !grpo.contains("sft."));
        assert!(grpo.contains("grpo.epsilon  (number, from 0, below 1; default 0.2)\n    Lower clip limit"), "{grpo}");
        assert!(
            grpo.contains("grpo.loss_type  (\"grpo\", \"dr_grpo\", \"dapo\" or \"gspo\"; default \"dapo\")"),
            "{grpo}"
        );
        let error = failure(&folder.0, &["train", "--options", "grop"]);
        assert!(error.contains("no section `grop`; take one of run, model"), "{error}");
    }

    #[test]
    fn devices_are_named_and_missing_ones_come_with_a_remedy() {
        let folder = Folder::new("devices");
        let list = success(&folder, &["devices"]);
        assert!(list.starts_with("cuda ") && list.contains("\nflex ") && list.contains("\nauto takes "), "{list}");
        let json: serde_json::Value = serde_json::from_str(&success(&folder, &["devices", "--json"])).unwrap();
        assert_eq!(json["devices"].as_array().unwrap().len(), 5);
        let unknown = failure(&folder.0, &["train", "--dry-run", "data.task=copy", "--device", "gpu"]);
        assert!(unknown.contains("there is no device `gpu`; take one of auto, flex"), "{unknown}");
        #[cfg(not(feature = "cuda"))]
        {
            let missing = failure(&folder.0, &["train", "--dry-run", "data.task=copy", "run.device=cuda"]);
            assert!(missing.contains("cargo build --release --features cuda"), "{missing}");
        }
    }

    #[test]
    fn the_environment_names_a_device_and_the_command_line_goes_before_it() {
        let folder = Folder::new("environment");
        let device = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_parl"))
                .args(["train", "--dry-run", "data.task=copy"])
                .args(arguments)
                .env("PARL_DATA", &folder.0)
                .env("PARL_DEVICE", "flex")
                .output()
                .unwrap();
            String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .find(|line| line.starts_with("device = "))
                .unwrap()
                .to_owned()
        };
        assert_eq!(device(&["run.device=wgpu"]), "device = \"flex\"");
        assert_eq!(device(&["--device", "auto"]), "device = \"auto\"");
    }

    /// A run of another day, in a folder of its own.
    fn write_run(folder: &Folder, name: &str) -> String {
        let run = folder.0.join("runs").join(name);
        std::fs::create_dir_all(run.join("traces")).unwrap();
        let config = success(folder, &["train", "--dry-run", "data.task=addition", "sft.max_steps=3"]);
        std::fs::write(run.join("config.toml"), config).unwrap();
        let info = serde_json::json!({
            "version": 1, "program": "0.1.0", "device": {"choice": "flex", "name": "CPU, 2 cores", "reason": "asked for"},
            "seed": 0, "data_sha256": {}, "tokenizer_sha256": "", "started": 1_700_000_000.5, "parameters": 312_345
        });
        std::fs::write(run.join("run.json"), info.to_string()).unwrap();
        let events = concat!(
            r#"{"time":1700000000.5,"type":"step","step":1,"metrics":{"loss":3.25,"memory":123456789,"step_time":40.5}}"#,
            "\n",
            r#"{"time":1700000001.0,"type":"step","step":2,"metrics":{"loss":2.5,"memory":123456789,"step_time":40.5}}"#,
            "\n",
            r#"{"time":1700000001.0,"type":"evaluated","step":2,"metrics":{"eval_loss":2.25}}"#,
            "\n",
            r#"{"time":1700000001.5,"type":"stopped","step":2,"reason":"stopped by Ctrl-C"}"#,
            "\n",
            r#"{"time":17000000"#,
        );
        std::fs::write(run.join("events.jsonl"), events).unwrap();
        let trace = r#"{"prompt":"1+1=","rollouts":[{"completion":"2","tokens":2,"truncated":false,"reward":1.0,"advantage":0.5}]}"#;
        std::fs::write(run.join("traces/step-000002.jsonl"), format!("{trace}\n")).unwrap();
        run.to_str().unwrap().to_owned()
    }

    #[test]
    fn runs_are_listed_and_shown() {
        let folder = Folder::new("runs");
        let run = write_run(&folder, "first");
        let broken = folder.0.join("runs/second");
        std::fs::create_dir_all(&broken).unwrap();
        std::fs::write(broken.join("run.json"), "{").unwrap();
        let list = success(&folder, &["runs", "list", folder.0.join("runs").to_str().unwrap()]);
        let lines: Vec<&str> = list.lines().collect();
        assert!(
            lines[0].starts_with("first ") && lines[0].ends_with("loss 2.5                          stopped by Ctrl-C"),
            "{list}"
        );
        assert!(lines[0].contains("2/3 ") && lines[1].contains("there is no config.toml in it"), "{list}");
        let show = success(&folder, &["runs", "show", &run, "--rollouts"]);
        for words in [
            "312,345 parameters, seed 0",
            "2 of 3, stopped by Ctrl-C",
            "1m21s",
            "123.5 MB",
            "2.25 nats",
            "1+1=",
            "reward 1, advantage 0.5",
        ] {
            assert!(show.contains(words), "{words}: {show}");
        }
        let error = failure(&folder.0, &["runs", "show", &run, "--rollouts", "7"]);
        assert!(error.contains("there are those of: 2"), "{error}");
    }

    #[test]
    fn metrics_are_exported() {
        let folder = Folder::new("export");
        let run = write_run(&folder, "first");
        let csv = success(&folder, &["runs", "export", &run, "--format", "csv"]);
        assert_eq!(csv.lines().next(), Some("step,time,loss,memory,step_time,eval_loss"));
        assert_eq!(csv.lines().nth(2), Some("2,1700000001,2.5,123456789,40.5,2.25"));
        let boards = folder.0.join("boards");
        let path =
            success(&folder, &["runs", "export", &run, "--format", "tensorboard", "--out", boards.to_str().unwrap()]);
        assert!(path.trim_end().ends_with("boards/first/events.out.tfevents.1700000000.parl"), "{path}");
        let bytes = std::fs::read(path.trim_end()).unwrap();
        assert!(bytes.windows(13).any(|bytes| bytes == b"brain.Event:2"));
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_bit_by_bit() {
        let folder = Folder::new("resume");
        let run = folder.0.join("run");
        let run_name = run.to_str().unwrap();
        let sizes =
            ["sft.max_steps=6", "sft.batch_size=2", "data.examples=32", "data.eval_examples=2", "checkpoint.every=3"];
        let arguments =
            [&["train", "data.task=copy", "--device", "flex", "--dir", run_name, "-q"][..], &sizes[..]].concat();
        success(&folder, &arguments);
        let manifest = run.join("checkpoints/step-000006/manifest.json");
        let expected = std::fs::read_to_string(&manifest).unwrap();
        // As a process leaves it that is killed while it writes its last checkpoint.
        std::fs::remove_file(&manifest).unwrap();
        let events = std::fs::read(run.join("events.jsonl")).unwrap();
        std::fs::write(run.join("events.jsonl"), &events[..events.len() - 150]).unwrap();
        let lines = success(&folder, &["train", "--resume", run_name, "--json"]);
        assert!(lines.lines().next().unwrap().contains(r#""type":"resumed","step":3"#), "{lines}");
        assert_eq!(
            std::fs::read_to_string(&manifest).unwrap(),
            expected,
            "weights, moments and state have the same hashes"
        );
        let csv = success(&folder, &["runs", "export", run_name, "--format", "csv"]);
        assert_eq!(csv.lines().count(), 1 + 6, "one line for each step: {csv}");
        let again = failure(&folder.0, &arguments);
        assert!(again.contains("is there already. Go on with that run by --resume"), "{again}");
    }
}
