//! Drives the built page in headless Chromium.
//!
//! `cargo xtask test` builds the bundle and sets the environment. By hand:
//! `PARL_DIST=dist cargo test -p parl-tests --test browser`, with
//! - `PARL_DIST`: the folder of the bundle; without it every test is skipped, loudly;
//! - `PARL_CHROMEDRIVER`: the driver, else `chromedriver` on PATH; `PARL_CHROMIUM`: the browser, else the driver's choice;
//! - `PARL_AXE`: `axe.min.js`; without it the accessibility test is skipped, loudly;
//! - `PARL_BFCL_WHEEL`: the pinned bfcl-eval wheel; without it the test that loads it is skipped, loudly.
//!
//! Screenshots go to `screenshots` below the target folder. Every test ends by asserting that the console shows no error
//! and that the page has asked its own origin only.

#[path = "browser/page.rs"]
mod page;

use fantoccini::key::Key;
use page::{Look, Page};
use parl_tests::skip;
use serde_json::json;

const FIRST: &str = "?task=parl_demo_0";

/// The last of the moments, whatever the conversation.
const END: &str = "&at=999";

#[tokio::test]
async fn opens_with_a_conversation_and_plays_it() {
    let Some(page) = Page::open("", Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    assert_eq!(page.count(".turn").await, 1, "the first turn is shown when the page opens");
    assert!(page.count(".change-list li").await > 0, "and it changes the state");
    page.screenshot("open").await;
    page.click("[aria-label='Step']").await;
    page.until_count(".turn", 2).await;
    page.click("[aria-label='Back']").await;
    page.until_count(".turn", 1).await;
    page.click("[aria-label='Reset to the beginning']").await;
    page.until_count(".call", 0).await;
    page.run("const s = document.querySelector('.speed select'); s.value = '4'; s.dispatchEvent(new Event('change'))")
        .await;
    page.click("#play").await;
    page.until("the conversation is at its end", "document.querySelector('#play').textContent.includes('Replay')")
        .await;
    page.screenshot("played").await;
    assert!(page.count(".verdict.is-pass").await > 3);
    page.finish().await;
}

#[tokio::test]
async fn every_demo_task_passes_with_its_ground_truth() {
    let Some(page) = Page::open("", Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    let total = page.count(".task-list .task").await;
    assert!(total >= 12, "{total} tasks");
    for index in 0..total {
        let name = page.value(&format!("document.querySelectorAll('.task-name')[{index}].textContent")).await;
        page.run(&format!("document.querySelectorAll('.task')[{index}].click()")).await;
        page.until_text(".heading h2", name.as_str().unwrap()).await;
        page.until_text("#verdict", "Passed").await;
    }
    page.finish().await;
}

#[tokio::test]
async fn an_edited_call_changes_result_state_and_verdict() {
    let Some(page) = Page::open(&format!("{FIRST}{END}"), Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    page.click("[data-place='0.0.1'] [aria-label='Edit this call']").await;
    page.fill(".editor textarea", "grep(file_name='june.txt', pattern='rain')").await;
    page.until_text("#verdict", "Failed").await;
    page.until_text("[data-turn='0'].verdict", "never seen").await;
    page.screenshot("edit").await;
    page.press(Key::Escape).await;
    page.until_text("#verdict", "Passed").await;
    // A call of a function that does not exist.
    page.click("[data-place='2.0.0'] [aria-label='Edit this call']").await;
    page.fill(".editor textarea", "make_folder('fog_watch')").await;
    page.press(Key::Enter).await;
    page.until_text("[data-place='2.0.0'] .result", "name 'make_folder' is not defined").await;
    page.until_text("[data-turn='2'].verdict", "the state of GorillaFileSystem is not as it should be").await;
    page.run("document.querySelector('[data-turn=\"2\"].verdict').scrollIntoView({block: 'end'})").await;
    page.screenshot("wrong-call").await;
    // Back undoes the edit.
    page.back().await;
    page.until_text("#verdict", "Passed").await;
    page.forward().await;
    page.until_text("#verdict", "Failed").await;
    page.click("#reset-edits").await;
    page.until_text("#verdict", "Passed").await;
    // Deleting and adding.
    page.click("[data-place='1.0.0'] [aria-label='Delete this call']").await;
    page.until_text("[data-turn='1'].verdict", "no call was made").await;
    page.click("[data-turn='1'] .turn-tools .add-step").await;
    page.fill(".editor textarea", "wc(file_name='july.txt', mode='l')").await;
    page.press(Key::Enter).await;
    page.until_text("#verdict", "Passed").await;
    page.finish().await;
}

#[tokio::test]
async fn a_link_shows_the_same_view_and_back_returns() {
    let Some(page) =
        Page::open("?task=parl_demo_5&at=4&theme=dark&speed=2&changes=only&search=kelp", Look::default()).await
    else {
        return;
    };
    page.until_text(".heading h2", "Thirty shares of kelp").await;
    page.until("the position is the link's", "document.querySelector('.track input').value === '4'").await;
    assert_eq!(page.value("document.documentElement.dataset.theme").await, json!("dark"));
    assert_eq!(page.value("document.querySelector('#search').value").await, json!("kelp"));
    assert_eq!(page.value("document.querySelector('.speed select').value").await, json!("2"));
    page.screenshot("deep-link-dark").await;
    page.fill("#search", "").await;
    page.until_text(".tasks .quantity", "18").await;
    page.run("[...document.querySelectorAll('.task')].find(t => t.textContent.includes('bee van')).click()").await;
    page.until_text(".heading h2", "The bee van").await;
    page.until("the URL follows", "location.search.includes('parl_demo_7')").await;
    page.back().await;
    page.until_text(".heading h2", "Thirty shares of kelp").await;
    page.forward().await;
    page.until_text(".heading h2", "The bee van").await;
    page.reload("?task=no_such_task").await;
    page.until_text(".notices", "no_such_task, which is not here").await;
    page.until_text("#verdict", "Passed").await;
    page.finish().await;
}

#[tokio::test]
async fn files_come_in_by_button_and_by_drop() {
    let Some(page) = Page::open("", Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    let task = json!({
        "id": "my_task", "title": "Two numbers", "involved_classes": ["MathAPI"], "ground_truth": [["add(a=1, b=2)"]],
        "question": [[{"role": "user", "content": "What is one and two?"}]],
    });
    page.choose_file("mine.jsonl", &task.to_string()).await;
    page.until_text(".heading h2", "Two numbers").await;
    page.until_text("#verdict", "Passed: all 1 turn").await;
    page.screenshot("own-task").await;
    let trajectory = json!({"id": "my_task", "case": "subtracts", "turns": [[["subtract(a=1, b=2)"]]]});
    page.drop_file("run.jsonl", &trajectory.to_string()).await;
    page.until_text("#verdict", "Failed in turn 1").await;
    page.until_text(".notices", "trajectory of my_task (subtracts) loaded").await;
    for (name, content, message) in [
        ("broken.jsonl", "{not json", "line 1 is not JSON"),
        ("other.json", "{\"hello\": 1}", "neither a task nor a trajectory"),
        ("empty.jsonl", "", "the file is empty"),
        ("fake.whl", "PK\u{3}\u{4} nothing", "not a wheel"),
        (
            "unknown.jsonl",
            "{\"id\": \"nowhere\", \"turns\": [[[\"ls()\"]]]}",
            "that the page does not know, such as nowhere",
        ),
    ] {
        page.drop_file(name, content).await;
        page.until_text(".notices", message).await;
    }
    page.screenshot("messages").await;
    page.click(".notice button").await;
    page.click("[aria-label='Step'], [aria-label='Back']").await;
    page.finish().await;
}

#[tokio::test]
async fn the_program_serves_the_page_under_its_strict_policy() {
    let look = Look { program: true, ..Look::default() };
    let Some(page) = Page::open(FIRST, look).await else { return };
    page.until_text("#verdict", "Passed").await;
    page.click("[aria-label='Step']").await;
    page.until("state changes are shown", "document.querySelector('.pane.state').textContent.length > 20").await;
    // A violation of the policy is an error in the console.
    page.finish().await;
}

#[tokio::test]
async fn the_wheel_brings_bfcl_into_the_page() {
    let Some(wheel) = std::env::var_os("PARL_BFCL_WHEEL").map(std::path::PathBuf::from) else {
        skip("PARL_BFCL_WHEEL does not name the bfcl-eval wheel; loading it in the page was not tested");
        return;
    };
    let Some(page) = Page::open("", Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    page.choose_path(&wheel).await;
    page.until_text(".notices", "800 tasks loaded").await;
    page.until_text(".heading h2", "multi_turn_base_0").await;
    page.until_text("#verdict", "Passed").await;
    page.screenshot("bfcl").await;
    for (search, words) in [("long_context_3", "multi_turn_long_context_3"), ("miss_func_0", "multi_turn_miss_func_0")]
    {
        page.fill("#search", search).await;
        page.until("the task is listed", "document.querySelector('.task-list .task')").await;
        page.run(&format!(
            "[...document.querySelectorAll('.task')].find(t => t.querySelector('.task-name').textContent === '{words}').click()"
        ))
        .await;
        page.until_text(".heading h2", words).await;
        page.press(Key::Escape).await;
        page.run("document.querySelector('#play').focus()").await;
        page.press(Key::End).await;
        page.until_text("#verdict", "Passed").await;
        page.until_text("#play", "Replay").await;
        page.screenshot(&format!("bfcl-{search}")).await;
    }
    assert!(page.count(".joined").await > 0, "a held-out function joins its turn");
    page.finish().await;
}

#[tokio::test]
async fn the_native_server_brings_its_tasks() {
    let look = Look { native_server: true, ..Look::default() };
    let Some(page) = Page::open("?source=bfcl&task=multi_turn_base_7", look).await else { return };
    page.until_text(".heading h2", "multi_turn_base_7").await;
    page.until_text("#verdict", "Passed: all 1 turn").await;
    page.until_text(".tasks .quantity", "19").await;
    page.finish().await;
}

#[tokio::test]
async fn the_keyboard_reaches_everything() {
    let Some(page) = Page::open(FIRST, Look::default()).await else { return };
    page.until_text("#verdict", "Passed").await;
    let position = async || page.value("Number(document.querySelector('.track input').value)").await;
    page.press(Key::Home).await;
    page.until("Home goes to the beginning", "document.querySelector('.track input').value === '0'").await;
    page.press(Key::Right).await;
    page.press(Key::Right).await;
    page.press(Key::Left).await;
    assert_eq!(position().await, json!(1));
    page.press(Key::End).await;
    page.until_text("#play", "Replay").await;
    page.type_keys(" ").await;
    page.until_text("#play", "Pause").await;
    page.type_keys(" ").await;
    page.until_text("#play", "Play").await;
    page.type_keys("t").await;
    page.until("t switches the theme", "document.documentElement.dataset.theme === 'dark'").await;
    page.type_keys("?").await;
    page.until("? opens the help", "document.querySelector('dialog').open").await;
    page.screenshot("help-dark").await;
    page.press(Key::Escape).await;
    page.until("Escape closes the help", "!document.querySelector('dialog').open").await;
    page.type_keys("/").await;
    page.until("/ goes to the search", "document.activeElement.id === 'search'").await;
    page.type_keys("kelp").await;
    page.until_text(".tasks .quantity", "1 of").await;
    // Tab from the search to the task, and open it with Enter.
    for _ in 0..3 {
        page.press(Key::Tab).await;
    }
    page.until("a control has the focus", "document.activeElement !== document.body").await;
    page.run("document.querySelector('.task').focus()").await;
    page.press(Key::Enter).await;
    page.until_text(".heading h2", "Thirty shares of kelp").await;
    // Every control shows that it has the focus, and Tab comes round without a trap.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        page.press(Key::Tab).await;
        let name = page
            .value("(e => (e.getAttribute('aria-label') || e.id || e.className || e.tagName) + '')(document.activeElement)")
            .await;
        seen.insert(name.to_string());
    }
    for control in ["Timeline", "Edit this call", "play", "Help", "Speed"] {
        assert!(seen.iter().any(|name| name.contains(control)), "Tab does not reach {control}: {seen:?}");
    }
    page.finish().await;
}

#[tokio::test]
async fn a_visitor_plays_the_agent_and_is_scored() {
    let Some(page) = Page::open("?task=parl_demo_0&mode=play", Look::default()).await else { return };
    page.until_text("#verdict", "Your turn").await;
    assert_eq!(page.count(".truth").await, 0, "the ground truth is hidden");
    page.run("const s = document.querySelector('#tool'); s.value = 'cd'; s.dispatchEvent(new Event('change'))").await;
    page.fill("#parameter-folder", "logs").await;
    page.until_text("#call-preview", "cd(folder='logs')").await;
    page.screenshot("play-form").await;
    page.click("#send").await;
    page.until_count(".call", 1).await;
    page.click(".composer .switch button:nth-child(2)").await;
    page.fill("#call-text", "grep(file_name='june.txt', pattern='fog')").await;
    page.press(Key::Enter).await;
    page.until_count(".call", 2).await;
    page.click("#end-turn").await;
    page.until_text("#verdict", "1 of 1 turns passed").await;
    page.until_count(".turn", 2).await;
    // The next turns are ended without a call, and fail.
    for turn in 2..=5 {
        page.until_count(".turn", turn).await;
        page.click("#end-turn").await;
    }
    page.until_text("#verdict", "Failed: 4 of 5 turns, first turn 2").await;
    assert_eq!(page.count(".truth").await, 0);
    page.click("#reveal").await;
    page.until_count(".truth", 5).await;
    page.run("document.querySelector('.composer').scrollIntoView({block: 'end'})").await;
    page.screenshot("play-revealed").await;
    // The link holds all of it.
    page.until("the URL follows", "location.search.includes('revealed=1')").await;
    let query = page.value("location.search").await;
    page.reload(query.as_str().unwrap()).await;
    page.until_text("#verdict", "Failed: 4 of 5 turns, first turn 2").await;
    page.finish().await;
}

#[tokio::test]
async fn a_phone_shows_everything_without_scrolling_sideways() {
    let look = Look { phone: true, ..Look::default() };
    for (name, query) in [
        ("phone-watch", "?task=parl_demo_10&at=9"),
        ("phone-play", "?task=parl_demo_3&mode=play"),
        (
            "phone-edited",
            "?task=parl_demo_0&edits=%7B%220%22%3A%5B%5B%22cd(folder%3D%27nowhere_to_be_found_at_all%27)%22%5D%5D%7D",
        ),
    ] {
        let Some(page) = Page::open(query, look).await else { return };
        page.until("the page is ready", "document.querySelector('.heading h2')").await;
        page.until("a turn is shown", "document.querySelector('.turn-title')").await;
        page.screenshot(name).await;
        let width = page.value("document.documentElement.scrollWidth").await;
        assert_eq!(width, json!(360), "{name} scrolls sideways");
        if name == "phone-watch" {
            page.click(".only-one-column button:nth-child(2)").await;
            page.until("the state is shown", "document.querySelector('#state').offsetHeight > 200").await;
            page.screenshot("phone-state").await;
            page.click("[aria-label='Tasks']").await;
            page.until("the drawer is open", "document.querySelector('#tasks').classList.contains('is-open')").await;
            page.pause(300).await;
            page.screenshot("phone-tasks").await;
            let width = page.value("document.documentElement.scrollWidth").await;
            assert_eq!(width, json!(360));
        }
        page.finish().await;
    }
}

#[tokio::test]
async fn axe_finds_nothing_serious() {
    let Some(axe) = page::axe() else {
        skip("PARL_AXE does not name axe.min.js; the accessibility check did not run");
        return;
    };
    let views = [
        ("", false),
        ("?task=parl_demo_0&at=999&edits=%7B%222%22%3A%5B%5B%22mkdir()%22%2C%22ls()%22%5D%5D%7D", false),
        ("?task=parl_demo_0&mode=play&calls=%5B%5B%5B%22ls()%22%5D%5D%5D&revealed=1", false),
        ("?task=parl_demo_10&at=7", true),
    ];
    for theme in ["light", "dark"] {
        for (index, (query, phone)) in views.iter().enumerate() {
            let separator = if query.is_empty() { "?" } else { "&" };
            let look = Look { phone: *phone, ..Look::default() };
            let Some(page) = Page::open(&format!("{query}{separator}theme={theme}"), look).await else { return };
            page.until("a turn is shown", "document.querySelector('.turn-title')").await;
            page.pause(400).await;
            page.screenshot(&format!("axe-{theme}-{index}")).await;
            page.expect_accessible(&axe, &format!("{query} {theme}")).await;
            if index == 0 {
                page.type_keys("?").await;
                page.until("? opens the help", "document.querySelector('dialog').open").await;
                page.expect_accessible(&axe, &format!("help {theme}")).await;
                page.press(Key::Escape).await;
                page.click("[aria-label='Edit this call']").await;
                page.fill(".editor textarea", "c").await;
                page.until("functions are offered", "document.querySelector('.chip')").await;
                page.expect_accessible(&axe, &format!("editor {theme}")).await;
                page.screenshot(&format!("editor-{theme}")).await;
            }
            page.finish().await;
        }
    }
}

#[tokio::test]
async fn a_missing_engine_is_explained() {
    let look = Look { without_wasm: true, ..Look::default() };
    let Some(page) = Page::open("", look).await else { return };
    page.until("the failure is shown", "!document.querySelector('#failure').hidden").await;
    page.until_text("#failure", "The engine did not start").await;
    page.screenshot("no-wasm").await;
    page.close().await;
}
