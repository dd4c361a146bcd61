//! Linking an account with the real binary: by QR and by code, refused, again after a logout.

use crate::common;

use std::process::Stdio;

use base64::Engine;
use common::{World, eventually, timeout};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_by_qr_and_says_who_it_is() {
    let world = World::unlinked().await;
    let summary = world.link(&["--device-name", "Kitchen"]).await;
    let account = world
        .server
        .core()
        .account(&common::phone_of(&summary))
        .expect("account");
    assert_eq!(summary["phone_jid"], account.pn_jid.to_string());
    assert_eq!(summary["lid"], account.lid_jid.to_string());
    assert_eq!(
        summary["device_id"],
        account.devices.last().expect("device").id
    );
    let store = world.account_dir().join("store.db");
    assert_eq!(
        summary["store_path"],
        store
            .canonicalize()
            .expect("store")
            .to_str()
            .expect("UTF-8")
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_leaves_on_disk_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::linked().await;
    let mode = |path: std::path::PathBuf| {
        std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(world.account_dir()), 0o700);
    for entry in std::fs::read_dir(world.account_dir()).expect("directory") {
        let entry = entry.expect("entry");
        assert_eq!(mode(entry.path()), 0o600, "{}", entry.path().display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_json_the_code_is_drawn_on_stderr_and_the_summary_is_alone_on_stdout() {
    let world = World::unlinked().await;
    let mut child = world
        .command()
        .args(["--link", "--timeout", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let mut drawing = String::new();
    while let Some(line) = timeout(stderr.next_line()).await.expect("read") {
        drawing.push_str(&line);
        drawing.push('\n');
        if line.starts_with("Scan this") {
            break;
        }
    }
    let text = whatsapp_loopback::camera::read(&drawing, false)
        .unwrap_or_else(|| panic!("no QR in\n{drawing}"));
    world
        .server
        .core()
        .scan_qr(&text, None)
        .expect("the drawn code pairs");
    tokio::spawn(async move { while let Ok(Some(_)) = stderr.next_line().await {} });
    let mut printed = String::new();
    let mut stdout = child.stdout.take().expect("stdout");
    timeout(stdout.read_to_string(&mut printed))
        .await
        .expect("read");
    assert!(timeout(child.wait()).await.expect("wait").success());
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let summary: Value = serde_json::from_str(printed.trim()).expect("JSON");
    assert!(summary["phone_jid"].is_string());
}

/// The binary as it links in a terminal of this size.
#[cfg(target_os = "linux")]
fn in_a_terminal(world: &World, columns: u16, rows: u16) -> tokio::process::Child {
    let plain = world.command();
    let mut command = tokio::process::Command::new("script");
    for (name, value) in plain.as_std().get_envs() {
        command.env(name, value.expect("a value"));
    }
    let line = format!(
        "stty cols {columns} rows {rows}; exec '{}' --link --timeout 60",
        env!("CARGO_BIN_EXE_channel-whatsapp")
    );
    command
        .args(["-qec", &line, "/dev/null"])
        .env("CHANNEL_WHATSAPP_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("script, of util-linux")
}

/// What it draws, up to the line below the code.
#[cfg(target_os = "linux")]
async fn drawn(child: &mut tokio::process::Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("stdout")).lines();
    let mut drawing = String::new();
    loop {
        let line = timeout(lines.next_line()).await.expect("read");
        drawing += &line.unwrap_or_else(|| panic!("no code in\n{drawing}"));
        if drawing.contains("Scan this") {
            return drawing;
        }
        drawing.push('\n');
    }
}

/// Black is black and white is white, whatever colours the terminal has; where there is no room, nothing is drawn.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_terminal_the_code_is_no_negative_and_nothing_is_drawn_without_room() {
    let world = World::unlinked().await;
    let mut narrow = in_a_terminal(&world, 40, 20);
    let drawing = drawn(&mut narrow).await;
    assert!(!drawing.contains(['█', '▀', '▄']), "{drawing}");
    assert!(drawing.contains("this window has 40"), "{drawing}");
    narrow.kill().await.expect("killed");

    let world = World::unlinked().await;
    let mut child = in_a_terminal(&world, 120, 70);
    let drawing = drawn(&mut child).await;
    let read = |light_ground| whatsapp_loopback::camera::read(&drawing, light_ground);
    let text = read(false).unwrap_or_else(|| panic!("no QR in\n{drawing}"));
    assert_eq!(read(true).as_ref(), Some(&text), "on a light ground");
    let core = world.server.core();
    core.scan_qr(&text, None).expect("it pairs");
    assert!(timeout(child.wait()).await.expect("wait").success());
}

/// What a camera reads of a picture, that is black on white and nothing else.
fn read(png: &[u8]) -> String {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png))
        .read_info()
        .expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    let (width, height) = (info.width as usize, info.height as usize);
    let mut picture =
        rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1, "one code");
    grids[0].decode().expect("it can be read").1
}

/// For a page that shows it, and for who opens the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pictures_of_the_code_are_the_code() {
    let world = World::unlinked().await;
    let file = world.home.path().join("qr.png");
    let mut child = world
        .command()
        .args(["--link", "--json", "--timeout", "60", "--qr-png"])
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut codes = Vec::new();
    while let Some(line) = timeout(lines.next_line()).await.expect("read") {
        let event: Value = serde_json::from_str(&line).expect("NDJSON");
        if event["event"] != "qr" {
            continue;
        }
        let text = event["text"].as_str().expect("text").to_owned();
        let url = event["png_data_url"].as_str().expect("URL");
        let picture = url.strip_prefix("data:image/png;base64,").expect("PNG");
        let picture = base64::engine::general_purpose::STANDARD.decode(picture);
        let picture = picture.expect("base64");
        assert_eq!(read(&picture), text);
        assert_eq!(std::fs::read(&file).expect("file"), picture);
        codes.push(text);
        let core = world.server.core();
        core.scan_qr(&read(&picture), None).expect("it pairs");
    }
    assert!(timeout(child.wait()).await.expect("wait").success());
    assert_eq!(codes.len(), 1);
    assert!(!file.exists(), "it is of no use any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_by_a_code_of_ones_own() {
    let world = World::unlinked().await;
    let account = world
        .server
        .core()
        .create_account(whatsapp_loopback::AccountSpec::default())
        .expect("account");
    let mut child = world
        .command()
        .args([
            "--link",
            "--json",
            "--timeout",
            "60",
            "--pair-code",
            &account.phone,
        ])
        .args(["--custom-pair-code", "ABCD1234"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut seen = Vec::new();
    while let Some(line) = timeout(lines.next_line()).await.expect("read") {
        let event: Value = serde_json::from_str(&line).expect("NDJSON");
        seen.push(event["event"].as_str().expect("event").to_owned());
        if event["event"] == "pair_code" {
            assert_eq!(event["code"], "ABCD1234");
            let core = world.server.core().clone();
            let phone = account.phone.clone();
            tokio::spawn(async move { core.enter_code(&phone, "ABCD1234").await.expect("code") });
        }
    }
    assert!(
        timeout(child.wait()).await.expect("wait").success(),
        "{seen:?}"
    );
    assert_eq!(seen, ["qr", "pair_code", "scanned", "restarting", "linked"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linked_account_is_not_linked_again() {
    let world = World::linked().await;
    let output = timeout(
        world
            .command()
            .args(["--link", "--json"])
            .stdout(Stdio::piped())
            .output(),
    )
    .await
    .expect("run");
    assert_eq!(output.status.code(), Some(1));
    let event: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(
        (&event["event"], &event["code"]),
        (&"failed".into(), &"already_linked".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_logout_the_old_session_is_moved_aside_and_a_new_one_linked() {
    let mut world = World::linked().await;
    let mut host = world.host();
    host.ask(
        "start_ingress",
        serde_json::json!({"config": common::open()}),
    )
    .await;
    assert!(
        world
            .server
            .core()
            .logout_device(&world.phone, world.device)
    );
    assert_eq!(host.exit().await.code(), Some(1));
    let refused = world
        .refused(
            "start_ingress",
            serde_json::json!({"config": common::open()}),
        )
        .await;
    assert_eq!(refused, "logged_out");
    let summary = world.link_as(&[], Some(&world.phone)).await;
    assert_eq!(common::phone_of(&summary), world.phone);
    world.is(&summary);
    let aside = std::fs::read_dir(world.account_dir())
        .expect("directory")
        .filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|e| e.file_name().to_string_lossy().contains(".aside-"))
        })
        .count();
    assert!(aside >= 1);
    assert!(world.poll(common::open()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_scans_until_the_time_is_up() {
    let world = World::unlinked().await;
    let output = timeout(
        world
            .command()
            .args(["--link", "--json", "--timeout", "2"])
            .stdout(Stdio::piped())
            .output(),
    )
    .await
    .expect("run");
    assert_eq!(output.status.code(), Some(1));
    let last = String::from_utf8(output.stdout).expect("UTF-8");
    let last: Value = serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["event"], &last["code"]),
        (&"failed".into(), &"link_timeout".into())
    );
    eventually("the server sees it go", || {
        world.server.core().connections().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_in_the_place_of_the_old_one_must_be_meant() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let push = |text: &str| {
        let to = serde_json::json!({"conversation_id": anna.pn().to_string()});
        serde_json::json!({"config": common::open(), "message": common::message(text, to)})
    };
    world
        .server
        .core()
        .revoke_device(&world.phone, world.device);
    assert_eq!(
        world.refused("push", push("from the old number")).await,
        "logged_out"
    );
    let other = world
        .server
        .core()
        .create_account(Default::default())
        .expect("account");
    let failed = world.link_failing(&other.phone).await;
    assert_eq!(failed["code"], "other_account");
    let devices = world
        .server
        .core()
        .account(&other.phone)
        .expect("account")
        .devices;
    assert!(
        devices.is_empty(),
        "the new device was logged out again: {devices:?}"
    );
    // Whom the operator has let in is let in whatever number this is.
    let channel = world.account_dir().join("channel.db");
    let store = || channel_whatsapp::store::Store::open(&channel).expect("store");
    let id: channel_whatsapp::identity::Address = anna.pn().to_string().parse().expect("address");
    let approval = channel_whatsapp::store::Approval {
        addresses: vec![id.clone()],
        id,
        name: None,
        since: 1,
    };
    let taken = store().take_approvals(vec![approval.clone()]).await;
    taken.expect("taken");
    let summary = world.link_as(&["--replace"], Some(&other.phone)).await;
    let approvals = store().approvals().await.expect("approvals");
    assert_eq!(approvals, [approval]);
    assert_eq!(common::phone_of(&summary), other.phone);
    world.ok("push", push("from the new number")).await;
    anna.wait_text("from the new number")
        .await
        .expect("arrives");
    let texts = anna.seen(|seen| {
        seen.messages
            .iter()
            .filter(|message| message.text().is_some())
            .count()
    });
    assert_eq!(texts, 1, "and nothing of the old one");
}
