//! The live view.

use super::{LOOK_EVERY, LOOKING_SHARE, Snapshot, View, health::Health, state::SeenEvent, state::State};
use crate::{
    colors::{self, Color},
    report::printable_line,
};
use chrono::Local;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyModifiers};
use futures::StreamExt;
use ratatui::{
    DefaultTerminal, Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color as Shade, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row, Table},
};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often it is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Lines of the head, and of the numbers with their frame.
const HEAD: u16 = 3;
const NUMBERS: u16 = 6;

/// The fewest lines of a framed list that are worth its frame.
const LEAST_LIST: u16 = 4;

/// What `?` shows; with its frame it fits into 80 columns and 24 lines.
const HELP: &str = "\
orders        placed, and how far they have come: pending at a supplier,
              shipped, completed; unpublished ones are stored, and the
              broker has yet to take them
households    people who registered, their devices, and their deliveries
shelves low   products at or under their reorder point: ordered again
consumers     messages that wait for a service, and those it works on
dead letters  messages nobody could handle: `off dead list` shows why
events        what travels on NATS; `off watch` shows all of it

q, Ctrl-C     stops everything in order
?, any key    closes this

`off doctor` says what is wrong, `off audit` that no order was lost";
const HELP_SIZE: (u16, u16) = (76, 15);

impl From<Color> for Shade {
    fn from(Color(number): Color) -> Self {
        Self::Indexed(number)
    }
}

/// What is drawn besides the state.
#[derive(Debug)]
struct Surroundings {
    up: Duration,
    speed: f64,
    /// Where the documentation of the orders API is.
    docs: Option<String>,
    shows_help: bool,
}

/// What a key does.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Stop,
    Help,
    Nothing,
}

/// Draws until it is dropped or the person asks to stop with Ctrl-C or q.
pub(super) async fn run(view: &View, health: watch::Receiver<Health>) -> anyhow::Result<()> {
    let mut screen = Screen(ratatui::try_init()?);
    let mut keys = EventStream::new();
    let mut events = view.events().await?;
    let mut state = State::new(Snapshot::read(&view.pool).await?);
    let docs = view.services.iter().find(|service| service.name == "orders");
    let docs = docs.map(|service| format!("{}/docs", service.url));
    let mut surroundings = Surroundings { up: Duration::ZERO, speed: view.speed, docs, shows_help: false };
    let mut next_look = Instant::now();
    let mut next_draw = Instant::now();
    loop {
        tokio::select! {
            Some(event) = events.next() => state.remember(event),
            Some(event) = keys.next() => match read(&event?) {
                Action::Stop => return Ok(()),
                Action::Help => surroundings.shows_help = !surroundings.shows_help,
                Action::Nothing => surroundings.shows_help = false,
            },
            () = sleep_until(next_look) => {
                state.look(Snapshot::read(&view.pool).await);
                next_look = Instant::now() + LOOK_EVERY.max(state.now.cost * LOOKING_SHARE);
            }
            () = sleep_until(next_draw) => {
                state.health.clone_from(&health.borrow());
                state.learn_names(&view.pool, usize::from(screen.0.size()?.height)).await;
                surroundings.up = Duration::from_secs(view.started.elapsed().as_secs());
                screen.0.draw(|frame| draw(frame, &surroundings, &state))?;
                next_draw = Instant::now() + DRAW_EVERY;
            }
        }
    }
}

/// The terminal, given back as it was however the view ends.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn read(event: &Event) -> Action {
    let Event::Key(KeyEvent { code, modifiers, .. }) = event else { return Action::Nothing };
    match code {
        KeyCode::Char('q') => Action::Stop,
        // In a raw terminal Ctrl-C is a key like any other.
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Action::Stop,
        KeyCode::Char('?') => Action::Help,
        _ => Action::Nothing,
    }
}

fn draw(frame: &mut Frame<'_>, surroundings: &Surroundings, state: &State) {
    let lists = frame.area().height.saturating_sub(HEAD + NUMBERS);
    // Two thirds are for events; where there is too little for both, all of it.
    let shelves = if lists >= 2 * LEAST_LIST { (lists / 3).max(LEAST_LIST) } else { 0 };
    let [head, numbers, shelves, events] = Layout::vertical([
        Constraint::Length(HEAD),
        Constraint::Length(NUMBERS),
        Constraint::Length(shelves),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, surroundings, state);
    let [orders, households] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(numbers);
    draw_orders(frame, orders, state);
    draw_households(frame, households, &state.now);
    draw_shelves(frame, shelves, &state.now);
    draw_events(frame, events, state);
    if surroundings.shows_help {
        draw_help(frame);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, surroundings: &Surroundings, state: &State) {
    let Surroundings { up, speed, docs, .. } = surroundings;
    let up = format!(" up {}, {speed}× life's pace  ", humantime::format_duration(*up));
    let title = Line::from(vec![
        " off ".bold().reversed(),
        up.into(),
        "q".bold(),
        " stops  ".into(),
        "?".bold(),
        " explains".into(),
    ]);
    let mut services = vec![Span::from(" ")];
    for (name, is_ready) in &state.health.services {
        let (mark, color) = if *is_ready { ("✓", colors::COMPLETED) } else { ("✗ not ready:", colors::WRONG) };
        services.extend([Span::styled(mark, Style::new().fg(color.into()).bold()), format!(" {name}  ").into()]);
    }
    services.extend(docs.iter().map(|docs| Span::from(docs.as_str()).dim()));
    // What is wrong matters more than how much waits.
    let below = match state.trouble() {
        Some(trouble) => {
            Line::from(format!(" {} ", printable_line(trouble)).bold().reversed().fg(Shade::from(colors::LOW)))
        }
        None => Line::from(vec![
            Span::from(format!(" consumers: {}, ", state.health.consumers)).dim(),
            match &state.health.dead_letters {
                Some(dead) => Span::styled(format!("dead letters: {dead}"), Style::new().fg(colors::WRONG.into())),
                None => "no dead letters".dim(),
            },
        ]),
    };
    frame.render_widget(Paragraph::new(vec![title, Line::from(services), below]), area);
}

fn draw_orders(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Snapshot { pending, shipped, completed, unpublished, .. } = state.now;
    let (placed, done) = state.rates;
    let rows = [
        Row::new(vec![
            colored("pending", colors::PENDING),
            number(pending),
            Line::from(format!("{placed:.1} placed/s")).dim(),
        ]),
        Row::new(vec![colored("shipped", colors::SHIPPED), number(shipped), Line::default()]),
        Row::new(vec![
            colored("completed", colors::COMPLETED),
            number(completed),
            Line::from(format!("{done:.1} completed/s")).dim(),
        ]),
        Row::new(vec![Line::from("unpublished"), number(unpublished), Line::default()]),
    ];
    let widths = [Constraint::Length(12), Constraint::Length(11), Constraint::Fill(1)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" Orders ")), area);
}

fn draw_households(frame: &mut Frame<'_>, area: Rect, now: &Snapshot) {
    let rows = [
        Row::new(vec![Line::from("households"), number(now.households)]),
        Row::new(vec![Line::from("devices"), number(now.devices)]),
        Row::new(vec![Line::from("deliveries"), number(now.deliveries)]),
        Row::new(vec![colored("shelves low", colors::LOW), number(now.low)]),
    ];
    let widths = [Constraint::Length(13), Constraint::Length(11)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" Households ")), area);
}

fn draw_shelves(frame: &mut Frame<'_>, area: Rect, now: &Snapshot) {
    let rows = now.lowest.iter().take(usize::from(area.height.saturating_sub(2))).map(|shelf| {
        Row::new(vec![
            Line::from(format!("ssd {}", shelf.ssd_id)),
            Line::from(format!("{} left", shelf.quantity)),
            Line::from(printable_line(&shelf.name)),
            Line::from(format!("for {:.0} s", shelf.seconds)).dim().right_aligned(),
        ])
    });
    let widths = [Constraint::Length(10), Constraint::Length(8), Constraint::Fill(1), Constraint::Length(10)];
    let block = Block::bordered().title(" Running low, and ordered again ");
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let shown = state.events.iter().take(usize::from(area.height.saturating_sub(2)));
    let lines: Vec<Line<'_>> = shown.map(|event| event_line(event, state.text(event))).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Events ")), area);
}

fn event_line(event: &SeenEvent, text: String) -> Line<'static> {
    let style = colors::of_subject(&event.subject).map_or_else(Style::new, |color| Style::new().fg(color.into()));
    Line::from(vec![
        Span::from(event.at.with_timezone(&Local).format("%H:%M:%S  ").to_string()).dim(),
        Span::styled(format!("{:<17} ", event.subject), style),
        Span::from(text),
    ])
}

fn draw_help(frame: &mut Frame<'_>) {
    let (width, height) = HELP_SIZE;
    let area = frame.area().centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" What this shows ");
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}

fn colored(text: &'static str, color: Color) -> Line<'static> {
    Line::styled(text, Style::new().fg(color.into()))
}

fn number(count: i64) -> Line<'static> {
    Line::from(count.to_string()).right_aligned().bold()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::snapshot::LowShelf;
    use chrono::DateTime;
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    const BARCODE: &str = "2000000000015";

    fn state() -> State {
        let mut state = State::new(Snapshot {
            taken: Instant::now(),
            cost: Duration::ZERO,
            pending: 12,
            shipped: 34,
            completed: 123_456,
            households: 1000,
            devices: 1983,
            deliveries: 123_450,
            low: 25,
            unpublished: 0,
            lowest: (1..=20)
                .map(|ssd_id| LowShelf { ssd_id, name: "Green tea".to_owned(), quantity: 1, seconds: 9.0 })
                .collect(),
        });
        state.health = Health {
            services: vec![("users".to_owned(), true), ("orders".to_owned(), false)],
            consumers: "3 messages waiting for them, 10 being handled".to_owned(),
            ..Health::default()
        };
        let order = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "ssd_id": 622, "product_id": BARCODE,
            "quantity": 7, "status": "pending"});
        for _ in 0..100 {
            let payload = order.to_string();
            state.remember(SeenEvent::new(DateTime::UNIX_EPOCH, "orders.pending", payload.as_bytes()));
        }
        state.names.insert(BARCODE.to_owned(), "Red lentils".to_owned());
        state
    }

    /// The lines of a terminal of this size.
    fn drawn(width: u16, height: u16, state: &State, shows_help: bool) -> Vec<String> {
        let docs = Some("http://127.0.0.1:8082/docs".to_owned());
        let surroundings = Surroundings { up: Duration::from_mins(2), speed: 60.0, docs, shows_help };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &surroundings, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row| (0..width).map(|column| buffer[(column, row)].symbol()).collect();
        (0..height).map(line).collect()
    }

    fn count(lines: &[String], text: &str) -> usize {
        lines.iter().filter(|line| line.contains(text)).count()
    }

    #[test]
    fn in_80_columns_device_product_health_and_keys_are_seen() {
        let lines = drawn(80, 24, &state(), false);
        for text in [
            "q stops  ? explains",
            "✓ users  ✗ not ready: orders",
            "3 messages waiting for them, 10 being handled, no dead letters",
            "orders.pending    ssd 622  7 × Red lentils  order 01890a5d",
        ] {
            assert!(count(&lines, text) > 0, "{text} in {lines:#?}");
        }
    }

    #[test]
    fn lists_are_as_long_as_the_terminal_allows() {
        let rows = |height| {
            let lines = drawn(80, height, &state(), false);
            (count(&lines, "Green tea"), count(&lines, "Red lentils"))
        };
        assert_eq!((rows(12), rows(24), rows(60)), ((0, 1), (3, 8), (15, 32)));
    }

    #[test]
    fn what_is_wrong_is_shown_and_help_is_at_hand() {
        let mut state = state();
        state.health.notice = Some("orders: 3 overdue".to_owned());
        assert_eq!(count(&drawn(80, 24, &state, false), " orders: 3 overdue "), 1);
        let help = drawn(80, 24, &state, true);
        for line in HELP.lines().filter(|line| !line.is_empty()) {
            assert_eq!(count(&help, line), 1, "{line} in {help:#?}");
        }
    }

    #[test]
    fn q_and_ctrl_c_stop_and_a_question_mark_explains() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(read(&key(KeyCode::Char('q'), none)), Action::Stop);
        assert_eq!(read(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Stop);
        assert_eq!(read(&key(KeyCode::Char('?'), none)), Action::Help);
        assert_eq!(read(&key(KeyCode::Char('c'), none)), Action::Nothing);
    }
}
