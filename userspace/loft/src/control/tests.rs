// SPDX-License-Identifier: Apache-2.0
use super::*;
use loft_agent::protocol::{receive, Frame};
use loft_agent::task;
use loft_devices::bus::MmioDevice;
use loft_devices::gpio::Pl061;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

/// A guest at a socket; the guest's ends of its service ports.
fn guest(name: &str) -> (Arc<Guest>, std::path::PathBuf, Vec<UnixStream>) {
    let path = std::env::temp_dir().join(format!("loft-control-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let guest = Arc::new(Guest::new(name.into(), 2, 512 << 20, vec!["cmd".into()], Default::default()).unwrap());
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..3).map(|_| UnixStream::pair().unwrap()).unzip();
    let mut ours = ours.into_iter();
    let agents = Agents::new(ours.next().unwrap(), ours.collect());
    guest.set_running(Some(Running {
        gate: Arc::default(),
        agents: Some(Arc::new(agents)),
        balloon: None,
        counters: Arc::new(Fixed),
        gpio: gpio(),
    }));
    serve(UnixListener::bind(&path).unwrap(), guest.clone()).unwrap();
    (guest, path, theirs)
}

/// Counters that stand still.
struct Fixed;

impl Counted for Fixed {
    fn counts(&self) -> Counts {
        let vcpu = |thread, exits| VcpuCounts { thread, counters: [("exits".to_owned(), exits)].into() };
        Counts { vm: [("remote_tlb_flush".to_owned(), 3)].into(), vcpus: vec![vcpu(7, 41), vcpu(8, 42)] }
    }
}

fn gpio() -> Arc<Pl061> {
    Arc::new(Pl061::new(EventFd::new(EFD_NONBLOCK).unwrap()))
}

/// Sends a line and returns the answer.
fn ask(stream: &UnixStream, line: &str) -> Answer {
    let (mut to, mut from) = (stream, stream);
    writeln!(to, "{line}").unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        from.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    serde_json::from_slice(&answer).unwrap()
}

fn frame(stream: &UnixStream) -> Frame {
    let mut got = None;
    // A byte at a time: what follows is the next one's.
    let mut one = std::iter::repeat_with(|| {
        let (mut from, mut byte) = (stream, [0]);
        from.read_exact(&mut byte).unwrap();
        byte
    });
    let mut decoder = loft_agent::protocol::Decoder::default();
    while got.is_none() {
        decoder.push(&one.next().unwrap());
        got = decoder.next_frame().unwrap();
    }
    got.unwrap()
}

#[test]
fn what_is_answered_at_once() {
    let (guest, path, theirs) = guest("simple");
    let client = UnixStream::connect(path).unwrap();
    let state = |line: &str| ask(&client, line).status.unwrap();
    let status = state(r#"{"request":"status"}"#);
    assert_eq!(
        (status.name.as_str(), status.vcpus, status.memory, status.state),
        ("simple", 2, 512 << 20, State::Running)
    );
    assert_eq!((status.pid, status.command), (std::process::id(), vec!["cmd".to_owned()]));
    for (request, expected) in [("pause", State::Paused), ("resume", State::Running)] {
        assert!(ask(&client, &format!(r#"{{"request":"{request}"}}"#)).ok);
        assert_eq!(state(r#"{"request":"status"}"#).state, expected);
    }
    assert!(ask(&client, r#"{"request":"stop"}"#).ok && ask(&client, r#"{"request":"reboot"}"#).ok);
    assert_eq!([frame(&theirs[0]), frame(&theirs[0])], [Frame::PowerOff, Frame::Reboot]);
    assert!(ask(&client, r#"{"request":"end"}"#).ok);
    assert_eq!(guest.mailbox.take(), [Message::End]);
    guest.set_running(None);
    assert_eq!(state(r#"{"request":"status"}"#).state, State::Restarting);
    assert!(ask(&client, r#"{"request":"stop"}"#).error.unwrap().contains("restarted"));
}

#[test]
fn counters_are_told() {
    let (guest, path, _theirs) = guest("stat");
    let client = UnixStream::connect(path).unwrap();
    let answer = ask(&client, r#"{"request":"stat"}"#);
    let stat = answer.stat.unwrap();
    assert_eq!((stat.name.as_str(), stat.pid), ("stat", std::process::id()));
    assert_eq!(stat.counts, Fixed.counts());
    assert!(answer.ok && answer.status.is_none());
    guest.set_running(None);
    assert!(ask(&client, r#"{"request":"stat"}"#).error.unwrap().contains("restarted"));
}

#[test]
fn the_button_is_pressed_where_there_is_no_agent() {
    let (guest, path, _theirs) = guest("button");
    let gpio = gpio();
    // PL061: both edges of line 3.
    gpio.write(0x408, &[8]);
    guest.set_running(Some(Running {
        gate: Arc::default(),
        agents: None,
        balloon: None,
        counters: Arc::new(Fixed),
        gpio: gpio.clone(),
    }));
    let client = UnixStream::connect(path).unwrap();
    assert!(ask(&client, r#"{"request":"stop"}"#).ok);
    let mut seen = [0; 4];
    gpio.read(0x414, &mut seen);
    assert_eq!(seen, [8, 0, 0, 0]);
    assert!(ask(&client, r#"{"request":"reboot"}"#).error.unwrap().contains("no agent"));
}

#[test]
fn nonsense_is_answered_and_ends_the_connection() {
    let (_guest, path, _theirs) = guest("nonsense");
    for line in ["", "{}", r#"{"request":"fly"}"#, "\u{1}", &"x".repeat(100_000)] {
        let client = UnixStream::connect(&path).unwrap();
        let _ = writeln!(&client, "{line}");
        let mut answer = String::new();
        // Where not all was read the connection is reset.
        let _ = BufReader::new(&client).read_line(&mut answer);
        assert!(answer.starts_with(r#"{"ok":false,"error":"this is no request"#), "{answer}");
    }
}

#[test]
fn the_console_is_heard_and_typed_on() {
    let (guest, path, _theirs) = guest("console");
    guest.hub.push(b"before ");
    let mut client = UnixStream::connect(path).unwrap();
    assert!(ask(&client, r#"{"request":"console"}"#).ok);
    let mut text = [0; 7];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"before ");
    guest.hub.push(b"after 1");
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"after 1");
    client.write_all(b"typed").unwrap();
    let message = loop {
        if let Some(message) = guest.mailbox.take().pop_front() {
            break message;
        }
    };
    assert_eq!(message, Message::Input(b"typed".to_vec()));
}

#[test]
fn a_command_has_the_connection_and_ends_with_it() {
    let (_guest, path, theirs) = guest("exec");
    let run = r#"{"request":"exec","argv":["ls","-l"],"terminal":[80,24]}"#;
    let first = UnixStream::connect(&path).unwrap();
    assert!(ask(&first, run).ok);
    let Frame::Run(json) = frame(&theirs[2]) else { panic!("it is not run") };
    let command: task::Command = serde_json::from_slice(&json).unwrap();
    assert_eq!((command.argv, command.terminal), (vec![b"ls".to_vec(), b"-l".to_vec()], Some((80, 24))));

    let second = UnixStream::connect(&path).unwrap();
    assert!(ask(&second, run).ok);
    assert!(matches!(frame(&theirs[1]), Frame::Run(_)));
    let third = UnixStream::connect(&path).unwrap();
    assert!(ask(&third, run).error.unwrap().contains("as many commands"));

    // What is no business of a command does not get through.
    for sent in [Frame::PowerOff, Frame::Stdin(b"in".to_vec())] {
        sent.send(&mut &first).unwrap();
    }
    assert_eq!(frame(&theirs[2]), Frame::Stdin(b"in".to_vec()));
    for sent in [Frame::Stdout(b"out".to_vec()), Frame::Exit(7)] {
        sent.send(&mut &theirs[2]).unwrap();
    }
    let mut got = Vec::new();
    receive(&mut &first, |frame| {
        got.push(frame);
        true
    })
    .unwrap();
    assert_eq!(got, [Frame::Stdout(b"out".to_vec()), Frame::Exit(7)]);

    // The client goes away: the command is ended, by its index, and the port is free again.
    assert_eq!(frame(&theirs[0]), Frame::Kill(2, 1));
    drop(second);
    assert_eq!(frame(&theirs[0]), Frame::Kill(1, 1));
    Frame::Exit(137).send(&mut &theirs[1]).unwrap();
    let third = loop {
        let client = UnixStream::connect(&path).unwrap();
        if ask(&client, run).ok {
            break client;
        }
        std::thread::yield_now();
    };
    drop(third);
    // The next one on that port is another one.
    assert!(matches!(frame(&theirs[0]), Frame::Kill(_, 2)));
}

/// A balloon that gives what it is asked for at once.
#[derive(Default)]
struct Willing(std::sync::Mutex<Option<u64>>);

impl Balloon for Willing {
    fn want(&self, bytes: u64) {
        *self.0.lock().unwrap() = Some(bytes);
    }
    fn actual(&self) -> u64 {
        self.0.lock().unwrap().unwrap_or(0)
    }
    fn is_used(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

#[test]
fn memory_goes_into_the_balloon() {
    let (guest, path, _theirs) = guest("balloon");
    let client = UnixStream::connect(path).unwrap();
    let set = |bytes: u64| ask(&client, &format!(r#"{{"request":"memory","bytes":{bytes}}}"#)).error;
    let all = 512 << 20;
    assert!(set(64 << 20).unwrap().contains("--balloon"));
    let balloon = Arc::new(Willing::default());
    guest.set_running(Some(Running {
        gate: Arc::default(),
        agents: None,
        balloon: Some(balloon.clone()),
        counters: Arc::new(Fixed),
        gpio: gpio(),
    }));
    assert!(set(64 << 20).unwrap().contains("virtio_balloon"));
    balloon.want(0);
    assert_eq!(set(100 << 20), None);
    assert_eq!(balloon.actual(), all - (100 << 20));
    assert_eq!(ask(&client, r#"{"request":"status"}"#).status.unwrap().balloon, all - (100 << 20));
    for wrong in [0, (64 << 20) - 1, all + 1, u64::MAX] {
        assert!(set(wrong).unwrap().contains("64 MiB to 512 MiB"), "{wrong}");
    }
    assert_eq!(set(all), None);
    assert_eq!(balloon.actual(), 0);
}
