//! A proxy that does to connections what networks do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A TCP proxy before a server, on a port of its own, until it is dropped.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happens to every connection from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpFault {
    /// Nothing: everything is passed on.
    None,
    /// Nobody listens: connections are refused.
    Down,
    /// Connections are accepted, and then nothing ever comes back.
    Silent,
    /// Answers come in pieces of so many bytes, with so long a pause before each.
    Slow(usize, Duration),
    /// The connection is reset as soon as something was sent.
    Reset,
    /// The connection ends after so many bytes of the answers.
    Truncate(usize),
    /// The answers are replaced by noise.
    Garbage,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
}

struct State {
    fault: TcpFault,
    /// `None` while the proxy is down.
    listener: Option<TcpListener>,
    connections: Vec<TcpStream>,
    /// How many connections were accepted.
    accepted: usize,
    stopped: bool,
}

impl TcpProxy {
    /// Starts a proxy before the server on a port of the loopback.
    ///
    /// # Panics
    ///
    /// When the loopback has no free port.
    pub fn start(server_port: u16) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            state: Mutex::new(State {
                fault: TcpFault::None,
                listener: Some(listener),
                connections: Vec::new(),
                accepted: 0,
                stopped: false,
            }),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&accepting));
        Self { address, shared }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Cuts every connection, and does this to all that come.
    ///
    /// # Panics
    ///
    /// When somebody else has taken the port while the proxy was down.
    pub fn set(&self, fault: TcpFault) {
        let mut state = self.shared.state();
        state.cut();
        state.fault = fault;
        if fault == TcpFault::Down {
            state.listener = None;
        } else if state.listener.is_none() {
            state.listener = Some(listen(self.address));
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        state.cut();
    }
}

impl Shared {
    // A thread that panicked elsewhere does not make the state wrong.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cut(&mut self) {
        for connection in self.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).expect("the loopback has this port");
    listener.set_nonblocking(true).expect("a listener need not wait");
    listener
}

/// Accepts connections. It asks now and then, so that the listener can be taken away.
fn accept(shared: &Arc<Shared>) {
    loop {
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        if let Some(Ok((near, _))) = state.listener.as_ref().map(TcpListener::accept) {
            state.accepted += 1;
            let fault = state.fault;
            if fault != TcpFault::Reset {
                state.connections.extend(near.try_clone());
            }
            drop(state);
            let shared = Arc::clone(shared);
            // A side that goes away ends the thread, which is no failure.
            thread::spawn(move || pass(&shared, fault, near));
        } else {
            drop(state);
            thread::sleep(POLL);
        }
    }
}

fn pass(shared: &Shared, fault: TcpFault, mut near: TcpStream) -> io::Result<()> {
    near.set_nonblocking(false)?;
    near.set_nodelay(true)?;
    match fault {
        // The state keeps it open until the fault changes.
        TcpFault::Silent => return Ok(()),
        // A socket that is closed with bytes unread in it resets its connection.
        TcpFault::Reset => return near.peek(&mut [0]).map(drop),
        _ => {}
    }
    let mut far = TcpStream::connect(shared.server)?;
    far.set_nodelay(true)?;
    shared.state().connections.push(far.try_clone()?);
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let result = answer(fault, &mut far, &mut near);
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
    result
}

/// Passes on what a server answers, as the fault says.
fn answer(fault: TcpFault, far: &mut TcpStream, near: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut left = if let TcpFault::Truncate(len) = fault { len } else { usize::MAX };
    while left > 0 {
        let len = far.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        let bytes = buffer.get_mut(..len).expect("no more is read than fits");
        match fault {
            TcpFault::Slow(piece, pause) => {
                for piece in bytes.chunks(piece) {
                    thread::sleep(pause);
                    near.write_all(piece)?;
                }
            }
            TcpFault::Garbage => {
                bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
                near.write_all(bytes)?;
            }
            _ => {
                let len = len.min(left);
                near.write_all(bytes.get(..len).expect("it is no more than there is"))?;
                left -= len;
            }
        }
    }
    Ok(())
}

const POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Instant;

    use super::*;

    /// Starts a server that sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        port
    }

    fn talk(proxy: &TcpProxy) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.address)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"words")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    }

    #[test]
    fn passes_everything_on_until_told_otherwise() {
        let proxy = TcpProxy::start(echo());
        assert_eq!(talk(&proxy).unwrap(), b"words");
        proxy.set(TcpFault::Down);
        assert_eq!(talk(&proxy).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        proxy.set(TcpFault::Silent);
        assert_eq!(talk(&proxy).unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.set(TcpFault::Reset);
        assert_eq!(talk(&proxy).unwrap_err().kind(), ErrorKind::ConnectionReset);
        proxy.set(TcpFault::Truncate(3));
        assert_eq!(talk(&proxy).unwrap(), b"wor");
        proxy.set(TcpFault::Garbage);
        assert_ne!(talk(&proxy).unwrap(), b"words");
        proxy.set(TcpFault::None);
        assert_eq!(talk(&proxy).unwrap(), b"words");
    }

    #[test]
    fn a_slow_answer_comes_in_pieces() {
        let proxy = TcpProxy::start(echo());
        proxy.set(TcpFault::Slow(1, Duration::from_millis(10)));
        let begun = Instant::now();
        assert_eq!(talk(&proxy).unwrap(), b"words");
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn cuts_what_is_open_when_the_fault_changes() {
        let proxy = TcpProxy::start(echo());
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        proxy.set(TcpFault::None);
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}
