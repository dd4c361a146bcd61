//! Files in and out, beside the library's own encryption and decryption alone: from memory to nowhere, without network
//! or disk; and beside what a client in this process takes for the same with its transfer, from memory to memory.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wacore::download::{DownloadUtils, MediaType};
use wacore::upload::{encrypt_media_streaming, encrypted_len};
use whatsapp_loopback::media::MediaLimits;
use whatsapp_loopback::people::Person;
use whatsapp_rust::Jid;
use whatsapp_rust::media::{DocumentOptions, document_message};

use crate::accounts::{Account, Side, until};
use crate::bench::Bench;
use crate::process::{Process, request};
use crate::table::{Aim, Unit};

/// Between two looks at the media store; of what it takes to get there, not a hundredth.
const LOOK: Duration = Duration::from_millis(5);

const IN: &str = "file in";
const BY_KEY: &str = "file out, by storage_key";
const BY_URL: &str = "file out, by url";
/// The same beside the library's transfer.
const WITH_TRANSFER: [(&str, &str); 3] = [
    (IN, "file in ‡"),
    (BY_KEY, "file out, by storage_key ‡"),
    (BY_URL, "file out, by url ‡"),
];

/// A document from a person to the disk; on from there by its key; and another one out by its URL.
pub fn media(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let size = bench.sizes.file as f64 / f64::from(1 << 20);
        let note = |bench: &mut Bench, side, label, aim, took: Duration| {
            let rate = size / took.as_secs_f64();
            bench.note(side, label, Unit::MebibytesPerSecond, aim, rate);
        };
        let aim = Aim::AtLeast(0.7);
        if account.side == Side::Bare {
            for (label, took) in alone(bench.sizes.file)? {
                note(bench, Side::Bare, label, aim, took);
            }
            return Ok(());
        }
        let (took, library) = through(bench, account)?;
        for ((label, took), (of, beside)) in took.into_iter().zip(WITH_TRANSFER) {
            note(bench, Side::Plugin, label, aim, took);
            note(bench, Side::Plugin, beside, Aim::None, took);
            let [received, sent] = library;
            let theirs = if of == IN { received } else { sent };
            note(bench, Side::Bare, beside, Aim::None, theirs);
        }
        Ok(())
    })
}

type Took = [(&'static str, Duration); 3];

/// The library's part.
fn alone(size: usize) -> Result<Took> {
    let (content, kind) = (noise(size), MediaType::Document);
    let began = Instant::now();
    encrypt_media_streaming(&content[..], io::sink(), kind)?;
    let encrypted = began.elapsed();
    let mut sealed = Vec::with_capacity(encrypted_len(size));
    let info = encrypt_media_streaming(&content[..], &mut sealed, kind)?;
    drop(content);
    let began = Instant::now();
    DownloadUtils::decrypt_stream_to_writer(&sealed[..], &info.media_key, kind, &mut io::sink())?;
    let decrypted = began.elapsed();
    Ok([(IN, decrypted), (BY_KEY, encrypted), (BY_URL, encrypted)])
}

/// The whole of it; and what the library takes to receive and to send a file.
fn through(bench: &Bench, account: &Account) -> Result<(Took, [Duration; 2])> {
    let (size, runtime) = (bench.sizes.file, &bench.runtime);
    let limits = MediaLimits {
        blob: 2 * size as u64,
        total: 6 * size as u64,
    };
    account.server().core().media.set_limits(limits);
    let person = runtime.block_on(Person::join(account.server(), "Sender"))?;
    let content = noise(size);
    let began = Instant::now();
    let upload = runtime.block_on(person.upload(&content, MediaType::Document))?;
    let sent = began.elapsed();
    drop(content);
    let options = DocumentOptions {
        file_name: Some("noise.bin".to_owned()),
        ..DocumentOptions::default()
    };
    let mut process = Process::ready(account)?;
    let before = shelved(account, size);
    let began = Instant::now();
    let to = Jid::pn(&account.phone);
    runtime.block_on(person.send(to, document_message(upload, options)))?;
    until("the file", || {
        // To look keeps a core from working.
        std::thread::sleep(LOOK);
        shelved(account, size) > before
    })?;
    let taken_in = began.elapsed();
    let event: Value = serde_json::from_str(&process.event()?)?;
    let key = &event["params"]["events"][0]["message"]["attachments"][0]["storage_key"];
    let (by_key, id) = push(&mut process, &person, ("storage_key", key))?;
    let message = runtime.block_on(person.wait_id(&id))?;
    let began = Instant::now();
    drop(runtime.block_on(person.download(&message))?);
    let received = began.elapsed();
    let url = json!(serve(noise(size))?);
    let (by_url, _) = push(&mut process, &person, ("url", &url))?;
    process.end()?;
    account.away()?;
    let took = [(IN, taken_in), (BY_KEY, by_key), (BY_URL, by_url)];
    Ok((took, [received, sent]))
}

/// Files of this size that have their name in the account's media store: they are whole, verified and on the disk.
fn shelved(account: &Account, size: usize) -> usize {
    let media = account.store.with_file_name("media");
    let entries = std::fs::read_dir(media).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|m| m.is_file() && m.len() == size as u64)
        })
        .count()
}

/// From the request's line to the answer, which comes once the server has the message; with the message's id.
fn push(
    process: &mut Process,
    to: &Person,
    (kind, source): (&str, &Value),
) -> Result<(Duration, String)> {
    let message = json!({
        "content": "",
        "content_type": "text/plain",
        "attachments": [{"name": "", "mime_type": "", kind: source}],
        "metadata": {"conversation_id": to.pn().to_string()},
    });
    let line = request("push", json!({"message": message}));
    let began = Instant::now();
    process.send(&line)?;
    let answer = process.answer()?;
    let took = began.elapsed();
    let sent = [
        "\"delivery_state\":\"sent\"",
        "\"delivery_state\":\"delivered\"",
    ];
    ensure!(sent.iter().any(|state| answer.contains(state)), "{answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let id = answer["result"]["delivery"]["message_id"].as_str();
    Ok((took, id.context("an id")?.to_owned()))
}

/// Serves a file once; its address.
fn serve(body: Vec<u8>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/noise.bin", listener.local_addr()?);
    std::thread::spawn(move || -> io::Result<()> {
        let (stream, _) = listener.accept()?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            line.clear();
        }
        let stream = stream.get_mut();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body)
    });
    Ok(url)
}

fn noise(size: usize) -> Vec<u8> {
    let mut noise = vec![0; size];
    fastrand::fill(&mut noise);
    noise
}
