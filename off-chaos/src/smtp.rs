//! The mail server of a run. It accepts most e-mails and fails with the others in every way that a mail server can. It
//! records what it got, and sends nothing.

use crate::journal::{Journal, MailAnswer, MailAttempt};
use anyhow::Context;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::Instant,
};

/// The domain of the sender, and of each `Message-ID`.
pub(crate) const MAIL_DOMAIN: &str = "off.example.com";

/// How long the notifications service waits for an answer.
pub(crate) const MAIL_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer is late if it comes so long after the begin of the attempt. The sender may have given up by then.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// How long a connection that hangs stays open: longer than the sender waits.
const HANG: Duration = Duration::from_secs(10);

/// What the mail server does with an e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Accept,
    /// 4xx, as greylisting servers do.
    NotNow,
    /// 5xx.
    Refuse,
    /// Gets the e-mail and never answers.
    Hang,
    /// Closes the connection in the middle of the e-mail.
    CloseInData,
    /// Gets the e-mail, and closes the connection before the answer.
    CloseBeforeAnswer,
}

impl Reaction {
    /// A random reaction: 70 of 100 e-mails are accepted.
    fn random(rng: &mut ChaCha8Rng) -> Self {
        match rng.random_range(0..100) {
            0..70 => Self::Accept,
            70..80 => Self::NotNow,
            80..86 => Self::Refuse,
            86..90 => Self::Hang,
            90..95 => Self::CloseInData,
            _ => Self::CloseBeforeAnswer,
        }
    }
}

/// The running mail server. Stops when dropped.
#[derive(Debug)]
pub(crate) struct SmtpServer {
    pub(crate) url: String,
    is_down: watch::Sender<bool>,
    _accepting: JoinSet<()>,
}

impl SmtpServer {
    /// Listens on a free port and records in `journal`. The n-th e-mail gets the same reaction with the same seed.
    pub(crate) async fn start(journal: Arc<Journal>, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot bind a port for the mail server")?;
        let url = format!("smtp://{}", listener.local_addr()?);
        let (is_down, down) = watch::channel(false);
        let mailbox = Mailbox { journal, rng: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))) };
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(connect(stream, mailbox.clone(), down.clone()));
            }
        });
        Ok(Self { url, is_down, _accepting: accepting })
    }

    /// Sets whether the server closes all connections, and new ones on arrival. It keeps its port meanwhile: another
    /// process might take it.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.send_replace(is_down);
    }
}

async fn connect(stream: TcpStream, mailbox: Mailbox, mut down: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = down.wait_for(|is_down| *is_down) => {}
        // A client that leaves is no failure.
        _ = mailbox.serve(stream) => {}
    }
}

/// Receives e-mails. Clones share it.
#[derive(Debug, Clone)]
struct Mailbox {
    journal: Arc<Journal>,
    rng: Arc<Mutex<ChaCha8Rng>>,
}

/// An e-mail whose recipient is named.
#[derive(Debug)]
struct Envelope {
    to: String,
    began: Instant,
}

impl Mailbox {
    /// Answers the commands of a client until one of the two leaves.
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        answer(&mut write, "220 mail").await?;
        let mut envelope = Envelope { to: String::new(), began: Instant::now() };
        while let Some(line) = lines.next_line().await? {
            let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match command.as_str() {
                "EHLO" => answer(&mut write, "250-mail\r\n250-8BITMIME\r\n250 SMTPUTF8").await?,
                "RCPT" => {
                    line.split(['<', '>']).nth(1).unwrap_or_default().clone_into(&mut envelope.to);
                    answer(&mut write, "250 ok").await?;
                }
                "DATA" => {
                    answer(&mut write, "354 go on").await?;
                    if !self.receive(&mut lines, &mut write, &envelope).await? {
                        return Ok(());
                    }
                }
                "QUIT" => return answer(&mut write, "221 bye").await,
                _ => answer(&mut write, "250 ok").await?,
            }
        }
        Ok(())
    }

    /// Reads an e-mail and reacts to it; returns whether the connection stays open.
    async fn receive(
        &self,
        lines: &mut Lines<BufReader<OwnedReadHalf>>,
        write: &mut OwnedWriteHalf,
        envelope: &Envelope,
    ) -> io::Result<bool> {
        let reaction = Reaction::random(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut id, mut is_id) = (String::new(), false);
        loop {
            let line = lines.next_line().await?;
            if id.is_empty()
                && let Some(line) = line.as_deref()
            {
                let value = if is_id { Some(line) } else { line.strip_prefix("Message-ID:") };
                // The value of a long field is on the next line.
                is_id = value.is_some_and(|value| value.trim().is_empty());
                value.unwrap_or_default().trim().clone_into(&mut id);
            }
            match line.as_deref() {
                Some(".") => break,
                Some(_) if id.is_empty() || reaction != Reaction::CloseInData => {}
                Some(_) | None => {
                    self.record(id, envelope, MailAnswer::Incomplete);
                    return Ok(false);
                }
            }
        }
        match reaction {
            Reaction::Accept => {
                answer(write, "250 accepted").await?;
                // Recorded only if it was written, and in one step with it.
                let is_late = envelope.began.elapsed() > LATE_AFTER;
                let accepted = if is_late { MailAnswer::AcceptedLate } else { MailAnswer::Accepted };
                self.record(id, envelope, accepted);
            }
            Reaction::NotNow => {
                self.record(id, envelope, MailAnswer::NotNow);
                answer(write, "451 try later").await?;
            }
            Reaction::Refuse => {
                self.record(id, envelope, MailAnswer::Refused);
                answer(write, "550 no such user").await?;
            }
            Reaction::Hang => {
                self.record(id, envelope, MailAnswer::Silent);
                tokio::time::sleep(HANG).await;
                return Ok(false);
            }
            Reaction::CloseInData | Reaction::CloseBeforeAnswer => {
                self.record(id, envelope, MailAnswer::Silent);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn record(&self, id: String, envelope: &Envelope, answer: MailAnswer) {
        let attempt = MailAttempt { to: envelope.to.clone(), at: Instant::now(), answer };
        self.journal.lock().mails.entry(id).or_default().push(attempt);
    }
}

async fn answer(write: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    write.write_all(format!("{text}\r\n").as_bytes()).await
}
