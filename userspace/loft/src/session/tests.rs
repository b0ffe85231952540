// SPDX-License-Identifier: Apache-2.0
use super::*;
use loft_devices::bus::MmioDevice;
use std::fs::File;
use std::io::{Read, Write};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

/// Everything that a session is wired to, from the other side.
struct World {
    uart: Uart,
    ended: EventFd,
    signals: SignalFd,
    hide_uart: Arc<AtomicBool>,
    refused: Refused,
    hub: Hub,
    mailbox: Mailbox,
    stdin: (OwnedFd, Option<File>),
    stdout: (File, OwnedFd),
    stderr: (File, OwnedFd),
}

impl World {
    fn new() -> Self {
        let pipe = || rustix::pipe::pipe().unwrap();
        let (stdin, feed) = pipe();
        let (out, stdout) = pipe();
        let (err, stderr) = pipe();
        Self {
            uart: Uart::new(EventFd::new(EFD_NONBLOCK).unwrap(), Box::new(std::io::sink())),
            ended: EventFd::new(EFD_NONBLOCK).unwrap(),
            signals: SignalFd::new(&nix::sys::signal::SigSet::empty()).unwrap(),
            hide_uart: Arc::default(),
            refused: Refused::new().unwrap(),
            hub: Hub::default(),
            mailbox: Mailbox::new().unwrap(),
            stdin: (stdin, Some(feed.into())),
            stdout: (out.into(), stdout),
            stderr: (err.into(), stderr),
        }
    }

    fn session(&self, hvc: Option<Hvc>, agent: Option<UnixStream>, keys: bool) -> Session<'_> {
        Session::new(Wiring {
            uart: &self.uart,
            hvc,
            agent,
            hide_uart: self.hide_uart.clone(),
            refused: &self.refused,
            ended: &self.ended,
            signals: &self.signals,
            keys,
            stdin: self.stdin.0.as_fd(),
            stdout: self.stdout.1.as_fd(),
            stderr: self.stderr.1.as_fd(),
            counters: &|| "{}".to_owned(),
            paused: &|| false,
            hub: &self.hub,
            mailbox: &self.mailbox,
            log: None,
            attached: false,
        })
    }

    fn type_in(&self, bytes: &[u8]) {
        self.stdin.1.as_ref().unwrap().write_all(bytes).unwrap();
    }

    /// What the guest finds in its serial port.
    fn received_by_uart(&self) -> Vec<u8> {
        let register = |offset| {
            let mut byte = [0];
            self.uart.read(offset, &mut byte);
            byte[0]
        };
        let mut got = Vec::new();
        while register(5) & 1 != 0 {
            got.push(register(0));
        }
        got
    }
}

fn agent() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn hvc() -> (Hvc, File, File) {
    let (guest_in, input) = rustix::pipe::pipe().unwrap();
    let (output, guest_out) = rustix::pipe::pipe().unwrap();
    for fd in [&input, &output] {
        rustix::io::ioctl_fionbio(fd, true).unwrap();
    }
    (Hvc { input, output, resize: Box::new(|_, _| {}) }, guest_in.into(), guest_out.into())
}

fn read_some(file: &mut File) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let n = file.read(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

/// The frames that arrive at the guest until `last` says that it was the last one.
fn frames(stream: &mut UnixStream, last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    let mut got = Vec::new();
    loft_agent::protocol::receive(stream, |frame| {
        let end = last(&frame);
        got.push(frame);
        !end
    })
    .unwrap();
    got
}

#[test]
fn a_command_s_output_input_and_status() {
    let mut world = World::new();
    world.type_in(b"input");
    world.stdin.1 = None;
    let (ours, mut theirs) = agent();
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let input = frames(&mut theirs, |f| *f == Frame::StdinEnd);
            for frame in [
                Frame::Hello(2_000_000),
                Frame::Stdout(b"out".to_vec()),
                Frame::Stderr(b"err".to_vec()),
                Frame::Exit(7),
            ] {
                frame.send(&mut theirs).unwrap();
            }
            let after = frames(&mut theirs, |f| *f == Frame::Goodbye);
            world.ended.write(1).unwrap();
            (input, after)
        });
        let mut session = world.session(None, Some(ours), false);
        assert_eq!(session.run().unwrap(), None);
        assert_eq!(session.status, Some(7));
        assert!(session.hello.is_some());
        let (input, after) = guest.join().unwrap();
        assert_eq!(input, [Frame::Stdin(b"input".to_vec()), Frame::StdinEnd]);
        assert_eq!(after, [Frame::Goodbye]);
    });
    assert_eq!(read_some(&mut world.stdout.0), b"out");
    assert_eq!(read_some(&mut world.stderr.0), b"err");
}

#[test]
fn only_a_guest_that_runs_has_a_time_limit() {
    let world = World::new();
    let (ours, _theirs) = agent();
    let mut session = world.session(None, Some(ours), false);
    session.deadline = Some(Instant::now());
    assert_eq!(session.run().unwrap(), Some(Ending::PowerOff));

    let (ours, _theirs) = agent();
    let mut session = world.session(None, Some(ours), false);
    session.deadline = Some(Instant::now());
    session.wiring.paused = &|| true;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            world.ended.write(1).unwrap();
        });
        assert_eq!(session.run().unwrap(), None);
    });
}

#[test]
fn much_input_waits_until_the_guest_takes_it() {
    let mut world = World::new();
    let (ours, mut theirs) = agent();
    let content: Vec<u8> = (0..2_000_000u32).map(|i| (i / 3) as u8).collect();
    let mut feed = world.stdin.1.take().unwrap();
    let writer = {
        let content = content.clone();
        std::thread::spawn(move || feed.write_all(&content).unwrap())
    };
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            let got = frames(&mut theirs, |f| *f == Frame::StdinEnd);
            world.ended.write(1).unwrap();
            got
        });
        let mut session = world.session(None, Some(ours), false);
        assert_eq!(session.run().unwrap(), None);
        let got: Vec<u8> = guest
            .join()
            .unwrap()
            .into_iter()
            .flat_map(|f| if let Frame::Stdin(bytes) = f { bytes } else { vec![] })
            .collect();
        assert!(got == content);
    });
    writer.join().unwrap();
}

#[test]
fn the_escape_key_ends_only_on_a_terminal() {
    let world = World::new();
    world.type_in(b"abc\x01x");
    let mut session = world.session(None, None, true);
    assert_eq!(session.run().unwrap(), Some(Ending::User));

    let mut world = World::new();
    world.type_in(b"abc\x01x");
    world.stdin.1 = None;
    let ended = world.ended.try_clone().unwrap();
    let mut session = world.session(None, None, false);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        ended.write(1).unwrap();
    });
    assert_eq!(session.run().unwrap(), None);
    assert_eq!(world.received_by_uart(), b"abc\x01x");
}

#[test]
fn input_follows_the_virtio_console_once_it_speaks() {
    let mut world = World::new();
    let (hvc, mut guest_in, mut guest_out) = hvc();
    world.type_in(b"early");
    let ended = world.ended.try_clone().unwrap();
    let feed = world.stdin.1.take().unwrap();
    let mut out = world.stdout.0.try_clone().unwrap();
    let guest = std::thread::spawn(move || {
        let mut feed = feed;
        std::thread::sleep(Duration::from_millis(200));
        guest_out.write_all(b"login: ").unwrap();
        assert_eq!(read_some(&mut out), b"login: ");
        feed.write_all(b"root\n").unwrap();
        let got = read_some(&mut guest_in);
        ended.write(1).unwrap();
        got
    });
    let mut session = world.session(Some(hvc), None, false);
    assert_eq!(session.run().unwrap(), None);
    assert_eq!(guest.join().unwrap(), b"root\n");
    assert_eq!(world.received_by_uart(), b"early");
    assert!(world.hide_uart.load(Ordering::Relaxed));
}

#[test]
fn what_comes_at_the_end_is_not_lost() {
    let mut world = World::new();
    let (ours, mut theirs) = agent();
    Frame::Stdout(b"last words".to_vec()).send(&mut theirs).unwrap();
    Frame::Exit(3).send(&mut theirs).unwrap();
    drop(theirs);
    let mut session = world.session(None, Some(ours), false);
    session.drain();
    assert_eq!(session.status, Some(3));
    drop(session);
    assert_eq!(read_some(&mut world.stdout.0), b"last words");
}

#[test]
fn a_guest_that_cannot_get_ready_says_why() {
    let world = World::new();
    let (ours, mut theirs) = agent();
    Frame::Failed("no disk".into()).send(&mut theirs).unwrap();
    let mut session = world.session(None, Some(ours), false);
    session.drain();
    assert_eq!((session.status, session.failure.as_deref()), (None, Some("no disk")));
    assert_eq!(frames(&mut theirs, |f| *f == Frame::Goodbye), [Frame::Goodbye]);
}

#[test]
fn nonsense_from_the_guest_is_an_error_not_a_panic() {
    let world = World::new();
    let (ours, mut theirs) = agent();
    theirs.write_all(&[0xff; 64]).unwrap();
    let mut session = world.session(None, Some(ours), false);
    assert!(session.run().unwrap_err().to_string().contains("not understood"));
}

#[test]
fn a_command_whose_output_is_closed_is_told_at_once_and_its_status_counts() {
    let mut world = World::new();
    drop(std::mem::replace(&mut world.stdout.0, File::open("/dev/null").unwrap()));
    let (ours, mut theirs) = agent();
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let got = frames(&mut theirs, |f| *f == Frame::StdoutGone);
            for frame in [Frame::Stdout(b"late".to_vec()), Frame::Exit(141)] {
                frame.send(&mut theirs).unwrap();
            }
            frames(&mut theirs, |f| *f == Frame::Goodbye);
            world.ended.write(1).unwrap();
            got
        });
        let mut session = world.session(None, Some(ours), false);
        assert_eq!(session.run().unwrap(), None);
        assert_eq!((session.status, session.lost.take()), (Some(141), None));
        assert_eq!(guest.join().unwrap(), [Frame::StdoutGone], "it is told once");
    });
}

#[test]
fn a_full_output_fails_the_run_whatever_the_command_makes_of_it() {
    let mut world = World::new();
    world.stdout.1 = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let (ours, mut theirs) = agent();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            Frame::Stdout(b"out".to_vec()).send(&mut theirs).unwrap();
            frames(&mut theirs, |f| *f == Frame::StdoutGone);
            Frame::Exit(0).send(&mut theirs).unwrap();
            frames(&mut theirs, |f| *f == Frame::Goodbye);
            world.ended.write(1).unwrap();
        });
        let mut session = world.session(None, Some(ours), false);
        assert_eq!(session.run().unwrap(), None);
        let lost = session.lost.take().unwrap();
        assert!(lost.detail().unwrap().contains("No space left"), "{lost:?}");
        assert_eq!(lost.exit_code_with(session.status), 125);
    });
}

#[test]
fn a_guest_without_a_command_ends_with_its_output() {
    let mut world = World::new();
    drop(std::mem::replace(&mut world.stdout.0, File::open("/dev/null").unwrap()));
    assert_eq!(world.session(None, None, false).run().unwrap().map(|e| e.exit_code()), Some(141));

    let mut world = World::new();
    world.stdout.1 = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let (hvc, _guest_in, mut guest_out) = hvc();
    guest_out.write_all(b"login: ").unwrap();
    assert_eq!(world.session(Some(hvc), None, false).run().unwrap().map(|e| e.exit_code()), Some(125));
}

#[test]
fn the_keys_are_shown_when_asked_for() {
    let mut world = World::new();
    world.type_in(b"a\x01hb");
    assert!(!world.session(None, None, true).read_stdin());
    assert_eq!(world.received_by_uart(), b"ab");
    assert!(String::from_utf8(read_some(&mut world.stderr.0)).unwrap().contains("Ctrl-a x ends"));
}

#[test]
fn others_type_and_hear_and_end_it() {
    let mut world = World::new();
    let (hvc, mut guest_in, mut guest_out) = hvc();
    let mailbox = &world.mailbox;
    let (listener, _) = world.hub.attach();
    world.mailbox.send(Message::Input(b"early".to_vec()));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            guest_out.write_all(b"login: ").unwrap();
            assert_eq!(&*listener.output.recv().unwrap(), b"login: ");
            mailbox.send(Message::Input(b"root\n".to_vec()));
            assert_eq!(read_some(&mut guest_in), b"root\n");
            mailbox.send(Message::End);
        });
        let mut session = world.session(Some(hvc), None, false);
        assert_eq!(session.run().unwrap(), Some(Ending::User));
    });
    assert_eq!(world.received_by_uart(), b"early");
    assert_eq!(read_some(&mut world.stdout.0), b"login: ");
}

#[test]
fn an_attached_session_ends_with_its_connection() {
    let mut world = World::new();
    world.type_in(b"to the guest");
    let (hvc, mut guest_in, mut guest_out) = hvc();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(read_some(&mut guest_in), b"to the guest");
            guest_out.write_all(b"bye").unwrap();
        });
        let mut wiring = world.session(Some(hvc), None, false).wiring;
        wiring.attached = true;
        assert_eq!(Session::new(wiring).run().unwrap(), None);
    });
    assert_eq!(read_some(&mut world.stdout.0), b"bye");
}
