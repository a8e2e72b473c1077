//! The live view on a terminal.

use super::{POLL_COST_FACTOR, POLL_INTERVAL, Snapshot, View, health::Health, state::SeenEvent, state::State};
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

/// The pause between two frames.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Height of the header, in lines.
const HEADER_HEIGHT: u16 = 3;

/// Height of the counts with their borders, in lines.
const COUNTS_HEIGHT: u16 = 6;

/// A list with borders is not drawn below this height, in lines.
const MIN_LIST_HEIGHT: u16 = 4;

/// The text that `?` shows; with its borders it fits into 80 columns and 24 lines.
const HELP: &str = "\
orders        by status: pending until they are paid or refused, paid
              until the supplier ships them, then shipped and completed;
              unpublished ones are not acknowledged by the broker yet
households    registered people, their devices, and their deliveries
items low     shelf items at or below their reorder point: reordered
consumers     messages that wait for a service, or are unacknowledged
dead letters  messages that could not be handled: see `off dead list`
events        messages on NATS; `off watch` prints all of them

q, Ctrl-C     shuts everything down gracefully
?, any key    closes this help

`off doctor` reports problems, `off audit` proves that no order was lost";
const HELP_SIZE: (u16, u16) = (76, 15);

impl From<Color> for Shade {
    fn from(Color(number): Color) -> Self {
        Self::Indexed(number)
    }
}

/// What is drawn in addition to the state.
#[derive(Debug)]
struct ViewContext {
    /// How long the system has been running.
    uptime: Duration,
    speed: f64,
    /// The URL of the documentation of the orders API.
    docs: Option<String>,
    shows_help: bool,
}

/// The effect of a key.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Stop,
    Help,
    CloseHelp,
    Nothing,
}

/// Draws until the user quits with Ctrl-C or q, or the future is dropped.
pub(super) async fn run(view: &View, health: watch::Receiver<Health>) -> anyhow::Result<()> {
    let mut screen = Screen(ratatui::try_init()?);
    let mut keys = EventStream::new();
    let mut events = view.events().await?;
    let mut state = State::new(Snapshot::read(&view.pool).await?);
    let docs = view.services.iter().find(|service| service.name == "orders");
    let docs = docs.map(|service| format!("{}/docs", service.url));
    let mut context = ViewContext { uptime: Duration::ZERO, speed: view.speed, docs, shows_help: false };
    let mut next_snapshot = Instant::now();
    let mut next_draw = Instant::now();
    loop {
        tokio::select! {
            Some(event) = events.next() => state.add_event(event),
            Some(event) = keys.next() => match action_of(&event?) {
                Action::Stop => return Ok(()),
                Action::Help => context.shows_help = !context.shows_help,
                Action::CloseHelp => context.shows_help = false,
                Action::Nothing => {}
            },
            () = sleep_until(next_snapshot) => {
                state.update(Snapshot::read(&view.pool).await);
                next_snapshot = Instant::now() + POLL_INTERVAL.max(state.snapshot.cost * POLL_COST_FACTOR);
            }
            () = sleep_until(next_draw) => {
                state.health.clone_from(&health.borrow());
                state.load_names(&view.pool, usize::from(screen.0.size()?.height)).await;
                context.uptime = Duration::from_secs(view.started.elapsed().as_secs());
                screen.0.draw(|frame| draw(frame, &context, &state))?;
                next_draw = Instant::now() + DRAW_INTERVAL;
            }
        }
    }
}

/// The terminal; its original mode is restored on drop.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn action_of(event: &Event) -> Action {
    let Event::Key(KeyEvent { code, modifiers, .. }) = event else { return Action::Nothing };
    match code {
        KeyCode::Char('q') => Action::Stop,
        // In raw mode, Ctrl-C arrives as a key and not as SIGINT.
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Action::Stop,
        KeyCode::Char('?') => Action::Help,
        _ => Action::CloseHelp,
    }
}

fn draw(frame: &mut Frame<'_>, context: &ViewContext, state: &State) {
    let lists = frame.area().height.saturating_sub(HEADER_HEIGHT + COUNTS_HEIGHT);
    // Events get two thirds, or everything if there is not enough space for both lists.
    let shelf_items = if lists >= 2 * MIN_LIST_HEIGHT { (lists / 3).max(MIN_LIST_HEIGHT) } else { 0 };
    let [header, counts, shelf_items, events] = Layout::vertical([
        Constraint::Length(HEADER_HEIGHT),
        Constraint::Length(COUNTS_HEIGHT),
        Constraint::Length(shelf_items),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    draw_header(frame, header, context, state);
    let [orders, households] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(counts);
    draw_orders(frame, orders, state);
    draw_households(frame, households, &state.snapshot);
    draw_shelf_items(frame, shelf_items, &state.snapshot);
    draw_events(frame, events, state);
    if context.shows_help {
        draw_help(frame);
    }
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, context: &ViewContext, state: &State) {
    let ViewContext { uptime, speed, docs, .. } = context;
    let uptime = format!(" up {}, {speed}× real time  ", humantime::format_duration(*uptime));
    let title = Line::from(vec![
        " off ".bold().reversed(),
        uptime.into(),
        "q".bold(),
        " quit  ".into(),
        "?".bold(),
        " help".into(),
    ]);
    let mut services = vec![Span::from(" ")];
    for (name, is_ready) in &state.health.services {
        let (mark, color) = if *is_ready { ("✓", colors::COMPLETED) } else { ("✗ not ready:", colors::ERROR) };
        services.extend([Span::styled(mark, Style::new().fg(color.into()).bold()), format!(" {name}  ").into()]);
    }
    services.extend(docs.iter().map(|docs| Span::from(docs.as_str()).dim()));
    // A problem is more important than the backlog.
    let status = match state.problem() {
        Some(problem) => {
            Line::from(format!(" {} ", printable_line(problem)).bold().reversed().fg(Shade::from(colors::LOW)))
        }
        None => Line::from(vec![
            Span::from(format!(" consumers: {}, ", state.health.consumers)).dim(),
            match &state.health.dead_letters {
                Some(dead) => Span::styled(format!("dead letters: {dead}"), Style::new().fg(colors::ERROR.into())),
                None => "no dead letters".dim(),
            },
        ]),
    };
    frame.render_widget(Paragraph::new(vec![title, Line::from(services), status]), area);
}

fn draw_orders(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Snapshot { pending, paid, shipped, completed, refused, cancelled, unpublished, .. } = state.snapshot;
    let (placed, done) = state.rates;
    let row = |name, count, other, count_of_other| Row::new(vec![name, number(count), other, number(count_of_other)]);
    let rows = [
        row(colored("pending", colors::PENDING), pending, colored("refused", colors::REFUSED), refused),
        row(colored("paid", colors::PAID), paid, colored("cancelled", colors::CANCELLED), cancelled),
        row(colored("shipped", colors::SHIPPED), shipped, Line::from("unpublished"), unpublished),
        Row::new(vec![colored("completed", colors::COMPLETED), number(completed)]),
    ];
    let widths = [Constraint::Length(9), Constraint::Fill(1), Constraint::Length(13), Constraint::Fill(1)];
    let rates = Line::from(format!(" {placed:.1} placed/s, {done:.1} completed/s ")).dim().right_aligned();
    let block = Block::bordered().title(" Orders ").title(rates);
    frame.render_widget(Table::new(rows, widths).column_spacing(1).block(block), area);
}

fn draw_households(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let rows = [
        Row::new(vec![Line::from("households"), number(snapshot.households)]),
        Row::new(vec![Line::from("devices"), number(snapshot.devices)]),
        Row::new(vec![Line::from("deliveries"), number(snapshot.deliveries)]),
        Row::new(vec![colored("items low", colors::LOW), number(snapshot.low)]),
    ];
    let widths = [Constraint::Length(13), Constraint::Length(11)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" Households ")), area);
}

fn draw_shelf_items(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let rows = snapshot.low_longest.iter().take(usize::from(area.height.saturating_sub(2))).map(|item| {
        Row::new(vec![
            Line::from(format!("ssd {}", item.ssd_id)),
            Line::from(format!("{} left", item.quantity)),
            Line::from(printable_line(&item.name)),
            Line::from(format!("for {:.0} s", item.seconds)).dim().right_aligned(),
        ])
    });
    let widths = [Constraint::Length(10), Constraint::Length(8), Constraint::Fill(1), Constraint::Length(10)];
    let block = Block::bordered().title(" Low shelf items, reordered ");
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
    let block = Block::bordered().title(" Help ");
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
    use crate::view::store::LowShelfItem;
    use chrono::DateTime;
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    const BARCODE: &str = "2000000000015";

    fn state() -> State {
        let mut state = State::new(Snapshot {
            taken_at: Instant::now(),
            cost: Duration::ZERO,
            pending: 12,
            paid: 23,
            shipped: 34,
            completed: 123_456,
            refused: 45,
            cancelled: 56,
            households: 1000,
            devices: 1983,
            deliveries: 123_450,
            low: 25,
            unpublished: 0,
            low_longest: (1..=20)
                .map(|ssd_id| LowShelfItem { ssd_id, name: "Green tea".to_owned(), quantity: 1, seconds: 9.0 })
                .collect(),
        });
        state.health = Health {
            services: vec![("users".to_owned(), true), ("orders".to_owned(), false)],
            consumers: "3 messages pending, 10 unacknowledged".to_owned(),
            ..Health::default()
        };
        let order = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "ssd_id": 622, "barcode": BARCODE,
            "quantity": 7, "status": "pending"});
        for _ in 0..100 {
            let payload = order.to_string();
            state.add_event(SeenEvent::new(DateTime::UNIX_EPOCH, "orders.pending", payload.as_bytes()));
        }
        state.names.insert(BARCODE.to_owned(), "Red lentils".to_owned());
        state
    }

    /// The lines of the view on a terminal of this size.
    fn drawn(width: u16, height: u16, state: &State, shows_help: bool) -> Vec<String> {
        let docs = Some("http://127.0.0.1:8082/docs".to_owned());
        let context = ViewContext { uptime: Duration::from_mins(2), speed: 60.0, docs, shows_help };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &context, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row| (0..width).map(|column| buffer[(column, row)].symbol()).collect();
        (0..height).map(line).collect()
    }

    fn count(lines: &[String], text: &str) -> usize {
        lines.iter().filter(|line| line.contains(text)).count()
    }

    #[test]
    fn everything_important_fits_into_80_columns() {
        let lines = drawn(80, 24, &state(), false);
        for text in [
            "q quit  ? help",
            "✓ users  ✗ not ready: orders",
            "3 messages pending, 10 unacknowledged, no dead letters",
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
    fn problems_and_help_are_shown() {
        let mut state = state();
        state.health.notice = Some("orders: 3 overdue".to_owned());
        assert_eq!(count(&drawn(80, 24, &state, false), " orders: 3 overdue "), 1);
        let help = drawn(80, 24, &state, true);
        for line in HELP.lines().filter(|line| !line.is_empty()) {
            assert_eq!(count(&help, line), 1, "{line} in {help:#?}");
        }
    }

    #[test]
    fn keys_stop_the_view_and_show_help() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(action_of(&key(KeyCode::Char('q'), none)), Action::Stop);
        assert_eq!(action_of(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Stop);
        assert_eq!(action_of(&key(KeyCode::Char('?'), none)), Action::Help);
        assert_eq!(action_of(&key(KeyCode::Char('c'), none)), Action::CloseHelp);
        assert_eq!(action_of(&Event::Resize(80, 24)), Action::Nothing);
    }
}
