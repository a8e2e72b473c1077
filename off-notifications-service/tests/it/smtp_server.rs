//! An SMTP server that answers as a test says.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

/// What the server does with an e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    Accept,
    /// Answers the recipient with this line.
    Answer(&'static str),
    /// Never answers the recipient.
    Hang,
    /// Closes the connection in the middle of the data.
    DropInData,
    /// Accepts the e-mail, and closes the connection before the answer.
    DropAfterData,
}

/// An e-mail that the server has got in full.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) to: String,
    /// The head and the body.
    pub(crate) text: String,
}

impl Received {
    /// A field of the head; empty if it is missing.
    pub(crate) fn field(&self, name: &str) -> String {
        let prefix = format!("{name}: ");
        let found = self.text.lines().find_map(|line| line.strip_prefix(&*prefix));
        found.unwrap_or_default().to_owned()
    }
}

#[derive(Debug, Default)]
struct State {
    /// The reactions to the next e-mails to an address; after them, all are accepted.
    reactions: HashMap<String, VecDeque<Reaction>>,
    /// The last reaction to an address stays for ever.
    forever: HashMap<String, Reaction>,
    received: Vec<Received>,
    /// Whether it does not accept addresses with letters beyond ASCII.
    is_ascii_only: bool,
    /// Recipients that were named, whatever followed.
    attempts: Vec<String>,
}

/// The running server.
#[derive(Debug, Clone)]
pub(crate) struct SmtpServer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl SmtpServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let server = Self { url, state: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = serving.clone();
                // A client that leaves is no failure.
                tokio::spawn(async move { drop(server.serve(connection).await) });
            }
        });
        server
    }

    /// Reacts so to the next e-mails to `address`, and accepts all after them.
    pub(crate) fn react(&self, address: &str, reactions: &[Reaction]) {
        self.state.lock().unwrap().reactions.insert(address.to_owned(), reactions.iter().copied().collect());
    }

    /// Reacts so to all e-mails to `address`.
    pub(crate) fn always(&self, address: &str, reaction: Reaction) {
        self.state.lock().unwrap().forever.insert(address.to_owned(), reaction);
    }

    /// Accepts only ASCII addresses from now on.
    pub(crate) fn accept_only_ascii(&self) {
        self.state.lock().unwrap().is_ascii_only = true;
    }

    /// The e-mails that it has got.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// How often an address was named as the recipient.
    pub(crate) fn attempts(&self, address: &str) -> usize {
        self.state.lock().unwrap().attempts.iter().filter(|named| *named == address).count()
    }

    fn next_reaction(&self, address: &str) -> Reaction {
        let mut state = self.state.lock().unwrap();
        state.attempts.push(address.to_owned());
        if let Some(reaction) = state.forever.get(address) {
            return *reaction;
        }
        state.reactions.get_mut(address).and_then(VecDeque::pop_front).unwrap_or(Reaction::Accept)
    }

    async fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = connection.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await?;
        let (mut to, mut reaction) = (String::new(), Reaction::Accept);
        while let Some(line) = lines.next_line().await? {
            let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let answer = match command.as_str() {
                "EHLO" if self.state.lock().unwrap().is_ascii_only => "250-test\r\n250 8BITMIME",
                "EHLO" => "250-test\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    reaction = self.next_reaction(&to);
                    match reaction {
                        Reaction::Answer(answer) => answer,
                        Reaction::Hang => std::future::pending().await,
                        _ => "250 ok",
                    }
                }
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await?;
                    if reaction == Reaction::DropInData {
                        return Ok(());
                    }
                    let text = read_data(&mut lines).await?;
                    self.state.lock().unwrap().received.push(Received { to: to.clone(), text });
                    if reaction == Reaction::DropAfterData {
                        return Ok(());
                    }
                    "250 accepted"
                }
                "QUIT" => {
                    write.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "250 ok",
            };
            write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}

/// Reads the head and the body, up to the line with a dot.
async fn read_data(lines: &mut tokio::io::Lines<BufReader<OwnedReadHalf>>) -> std::io::Result<String> {
    let mut text = String::new();
    while let Some(line) = lines.next_line().await? {
        if line == "." {
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}
