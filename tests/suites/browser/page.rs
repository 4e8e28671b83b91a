//! A page in a browser of its own, served from the bundle by a small server of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use parl_tests::skip;
use serde_json::{Map, Value as Json, json};

/// How long a test waits for something to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the page is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// 360 × 740 with touch, instead of 1440 × 900.
    pub phone: bool,
    /// The server has lost the engine.
    pub without_wasm: bool,
    /// The server answers as `parl serve` with one BFCL task does.
    pub native_server: bool,
    /// The program `parl` serves the page itself, under its strict policy.
    pub program: bool,
}

/// A page, its browser and its server.
pub struct Page {
    client: Client,
    origin: String,
    _driver: Driver,
    _program: Option<Driver>,
}

/// A process that ends with the test: the browser's driver, or the program.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// axe-core's text, if there.
pub fn axe() -> Option<String> {
    std::fs::read_to_string(std::env::var_os("PARL_AXE")?).ok()
}

impl Page {
    /// Opens the page, or says why not.
    pub async fn open(query: &str, look: Look) -> Option<Self> {
        let Some(dist) = std::env::var_os("PARL_DIST").map(PathBuf::from) else {
            skip("PARL_DIST does not name the folder of the bundle; `cargo xtask test` sets it");
            return None;
        };
        assert!(dist.join("index.html").exists(), "{} holds no bundle", dist.display());
        let Some((driver, driver_address)) = start_driver() else {
            skip("there is no chromedriver (PARL_CHROMEDRIVER or PATH)");
            return None;
        };
        let (origin, program) = match look.program {
            true => {
                let Some(program) = std::env::var_os("PARL_PROGRAM") else {
                    skip("PARL_PROGRAM does not name the program `parl`; `cargo xtask test` sets it");
                    return None;
                };
                let (program, origin) = start_program(&program, &dist);
                (origin, Some(program))
            }
            false => (serve(dist, look), None),
        };
        let mut options = json!({
            "args": ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--disable-gpu", "--force-prefers-reduced-motion", "--hide-scrollbars", "--window-size=1440,900"],
        });
        if let Some(browser) = std::env::var_os("PARL_CHROMIUM") {
            options["binary"] = json!(browser.to_string_lossy());
        }
        if look.phone {
            options["mobileEmulation"] = json!({"deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 2.0}});
        }
        let mut capabilities = Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        capabilities.insert("goog:loggingPrefs".into(), json!({"browser": "ALL", "performance": "ALL"}));
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&driver_address).await.expect("the browser starts");
        client.goto(&format!("{origin}/{query}")).await.expect("the page opens");
        Some(Self { client, origin, _driver: driver, _program: program })
    }

    /// Loads the page again with another query.
    pub async fn reload(&self, query: &str) {
        self.client.goto(&format!("{}/{query}", self.origin)).await.expect("the page opens");
    }

    /// The value of a JavaScript expression.
    pub async fn value(&self, expression: &str) -> Json {
        let script = format!("return {expression};");
        self.client.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Runs a JavaScript statement.
    pub async fn run(&self, statement: &str) {
        self.client.execute(statement, Vec::new()).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Waits until the expression is true.
    pub async fn until(&self, what: &str, expression: &str) {
        let begin = Instant::now();
        while self.value(&format!("!!({expression})")).await != json!(true) {
            if begin.elapsed() > PATIENCE {
                self.screenshot("failure").await;
                panic!("waited in vain until {what} ({expression}); console: {:?}", self.log("browser").await);
            }
            self.pause(40).await;
        }
    }

    /// Waits until an element contains the text.
    pub async fn until_text(&self, selector: &str, text: &str) {
        let (selector, wanted) = (json!(selector), json!(text));
        let expression =
            format!("[...document.querySelectorAll({selector})].some(e => e.textContent.includes({wanted}))");
        self.until(&format!("{selector} says {text}"), &expression).await;
    }

    /// How many elements there are.
    pub async fn count(&self, selector: &str) -> usize {
        let number = self.value(&format!("document.querySelectorAll({}).length", json!(selector))).await;
        number.as_u64().expect("a length is a number") as usize
    }

    /// Waits until there are so many elements.
    pub async fn until_count(&self, selector: &str, number: usize) {
        let expression = format!("document.querySelectorAll({}).length === {number}", json!(selector));
        self.until(&format!("there are {number} of {selector}"), &expression).await;
    }

    /// Clicks the first such element.
    pub async fn click(&self, selector: &str) {
        self.until(&format!("{selector} is there"), &format!("document.querySelector({})", json!(selector))).await;
        let element = self.client.find(Locator::Css(selector)).await.expect("the element is there");
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Replaces a field's text by typing.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.until(&format!("{selector} is there"), &format!("document.querySelector({})", json!(selector))).await;
        let select = format!("const f = document.querySelector({}); f.focus(); f.select();", json!(selector));
        self.run(&select).await;
        self.press(Key::Delete).await;
        let element = self.client.find(Locator::Css(selector)).await.expect("the field is there");
        if !text.is_empty() {
            element.send_keys(text).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        }
    }

    /// Presses a key, wherever the focus is.
    pub async fn press(&self, key: Key) {
        self.type_keys(&char::from(key).to_string()).await;
    }

    /// Types characters, wherever the focus is.
    pub async fn type_keys(&self, keys: &str) {
        let mut actions = KeyActions::new("keyboard".into());
        for key in keys.chars() {
            actions = actions.then(KeyAction::Down { value: key }).then(KeyAction::Up { value: key });
        }
        self.client.perform_actions(actions).await.expect("keys can be pressed");
    }

    /// Chooses a file with the button.
    pub async fn choose_file(&self, name: &str, content: &str) {
        let folder = std::env::temp_dir().join(format!("parl-browser-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
        let path = folder.join(name);
        std::fs::write(&path, content).expect("the file can be written");
        self.choose_path(&path).await;
    }

    /// Chooses a file that exists with the button.
    pub async fn choose_path(&self, path: &Path) {
        let input = self.client.find(Locator::Css("#file")).await.expect("there is a file button");
        input.send_keys(&path.to_string_lossy()).await.expect("the file can be chosen");
    }

    /// Drops a file onto the page.
    pub async fn drop_file(&self, name: &str, content: &str) {
        let script = format!(
            "const transfer = new DataTransfer(); transfer.items.add(new File([{}], {}));
             const event = kind => new DragEvent(kind, {{dataTransfer: transfer, bubbles: true, cancelable: true}});
             document.body.dispatchEvent(event('dragover')); document.body.dispatchEvent(event('drop'));",
            json!(content),
            json!(name)
        );
        self.run(&script).await;
    }

    /// The browser's Back.
    pub async fn back(&self) {
        self.client.back().await.expect("there is a page before");
    }

    /// The browser's Forward.
    pub async fn forward(&self) {
        self.client.forward().await.expect("there is a page after");
    }

    /// Does nothing for a while.
    pub async fn pause(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Keeps a picture of the page.
    pub async fn screenshot(&self, name: &str) {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
        let folder = target.join("screenshots");
        std::fs::create_dir_all(&folder).expect("the screenshots' folder can be made");
        let picture = self.client.screenshot().await.expect("the browser takes a picture");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("the picture can be written");
    }

    /// Asserts that axe-core finds nothing serious or critical.
    pub async fn expect_accessible(&self, axe: &str, what: &str) {
        self.run(axe).await;
        let script = "const done = arguments[arguments.length - 1];
            axe.run({resultTypes: ['violations']}).then(found => done(found.violations
                .filter(one => ['serious', 'critical'].includes(one.impact))
                .map(one => one.id + ': ' + one.help + ' at ' + one.nodes.map(node => node.target.join(' ')
                    + ' (' + node.failureSummary.slice(0, 200) + ')').slice(0, 4).join('; '))));";
        let found = self.client.execute_async(script, Vec::new()).await.expect("axe runs");
        assert_eq!(found, json!([]), "axe-core on {what}");
    }

    /// Asserts that the console is clean and that only the own origin was asked, and closes the browser.
    pub async fn finish(self) {
        let console = self.log("browser").await;
        let errors: Vec<_> =
            console.iter().filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG").collect();
        assert!(errors.is_empty(), "the console shows {errors:#?}");
        for entry in self.log("performance").await {
            let message: Json = serde_json::from_str(entry["message"].as_str().unwrap_or_default()).unwrap_or_default();
            let url = message.pointer("/message/params/request/url").and_then(Json::as_str);
            if message.pointer("/message/method") == Some(&json!("Network.requestWillBeSent")) {
                let url = url.unwrap_or_default();
                let is_own = url.starts_with(&self.origin) || url.starts_with("data:") || url.starts_with("blob:");
                assert!(is_own, "the page asked {url}");
            }
        }
        self.close().await;
    }

    /// Closes the browser without looking at the console.
    pub async fn close(self) {
        self.client.close().await.expect("the browser closes");
    }

    async fn log(&self, kind: &'static str) -> Vec<Json> {
        let entries = self.client.issue_cmd(GetLog(kind)).await.expect("the driver has a log");
        entries.as_array().cloned().unwrap_or_default()
    }
}

/// chromedriver's command that reads (and empties) a log.
#[derive(Debug)]
struct GetLog(&'static str);

impl WebDriverCompatibleCommand for GetLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({"type": self.0}).to_string()))
    }
}

/// Starts `parl serve` on a free port, with no data fetched.
fn start_program(program: &std::ffi::OsStr, dist: &Path) -> (Driver, String) {
    let data = std::env::temp_dir().join(format!("parl-browser-no-data-{}", std::process::id()));
    let mut command = Command::new(program);
    command.args(["serve", "--port", "0", "--dist"]).arg(dist).env("PARL_DATA", data).stdout(Stdio::piped());
    let mut child = command.spawn().expect("parl starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("the output was asked for")).read_line(&mut line).expect("parl speaks");
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).expect("parl tells its address");
    (Driver(child), address.trim_end_matches('.').to_owned())
}

fn start_driver() -> Option<(Driver, String)> {
    let program = std::env::var_os("PARL_CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
    let mut child = Command::new(program).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let output = child.stdout.take().expect("the output was asked for");
    let driver = Driver(child);
    let mut lines = BufReader::new(output).lines();
    let port = lines.find_map(|line| {
        let line = line.ok()?;
        line.split("started successfully on port ").nth(1)?.trim_end_matches('.').parse::<u16>().ok()
    })?;
    // The driver must not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, format!("http://127.0.0.1:{port}")))
}

/// Serves the folder until the process ends; what is not there is answered with the page, as `trunk serve` does.
fn serve(folder: PathBuf, look: Look) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let origin = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder, look));
        }
    });
    origin
}

fn answer(mut stream: TcpStream, folder: &Path, look: Look) -> Option<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split_whitespace().nth(1)?.split(['?', '#']).next()?.trim_start_matches('/');
    let file = folder.join(if path.is_empty() { "index.html" } else { path });
    let native = native_answer(path).filter(|_| look.native_server);
    let is_lost = look.without_wasm && path.ends_with(".wasm");
    let (status, body, file) = match std::fs::read(&file) {
        _ if native.is_some() => ("200 OK", native?.to_string().into_bytes(), PathBuf::from("answer.json")),
        _ if is_lost => ("404 Not Found", Vec::new(), file),
        Ok(body) if !path.contains("..") => ("200 OK", body, file),
        _ => ("200 OK", std::fs::read(folder.join("index.html")).ok()?, folder.join("index.html")),
    };
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

/// What `parl serve` answers, for a data folder with one task.
fn native_answer(path: &str) -> Option<Json> {
    let id = "multi_turn_base_7";
    Some(match path.strip_prefix("api/")? {
        "status" => json!({"bfcl": true, "version": "0"}),
        "bfcl/tasks" => json!([{"id": id, "title": "", "category": "base", "classes": ["MathAPI"], "turns": 1}]),
        "bfcl/tasks/multi_turn_base_7" => json!({
            "id": id, "category": "base", "classes": ["MathAPI"], "initial_config": {},
            "turns": [{"messages": [{"role": "user", "content": "Add."}], "ground_truth": ["add(a=2, b=3)"]}],
        }),
        _ => return None,
    })
}
