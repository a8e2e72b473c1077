//! The live view.

use super::{LOOK_EVERY, LOOKING_SHARE, SeenEvent, State, View, snapshot::Snapshot};
use chrono::Local;
use crossterm::event::{Event, EventStream, KeyCode, KeyModifiers};
use futures::StreamExt;
use ratatui::{
    DefaultTerminal, Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Table},
};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often it is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Draws until it is dropped or the person asks to stop with Ctrl-C or q.
pub(super) async fn run(view: &View, stuck: watch::Receiver<Option<String>>) -> anyhow::Result<()> {
    let mut screen = Screen(ratatui::try_init()?);
    let mut keys = EventStream::new();
    let mut events = view.events().await?;
    let mut state = State::new(Snapshot::read(&view.pool).await?);
    let mut next_look = Instant::now();
    let mut next_draw = Instant::now();
    loop {
        tokio::select! {
            Some(event) = events.next() => state.remember(event),
            Some(key) = keys.next() => if asks_to_stop(&key?) { return Ok(()) },
            () = sleep_until(next_look) => {
                state.look(Snapshot::read(&view.pool).await);
                next_look = Instant::now() + LOOK_EVERY.max(state.now.cost * LOOKING_SHARE);
            }
            () = sleep_until(next_draw) => {
                state.stuck.clone_from(&stuck.borrow());
                screen.0.draw(|frame| draw(frame, view, &state))?;
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

fn asks_to_stop(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    match key.code {
        KeyCode::Char('q') => true,
        // In a raw terminal Ctrl-C is a key like any other.
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

fn draw(frame: &mut Frame<'_>, view: &View, state: &State) {
    let [head, numbers, shelves, events] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(6), Constraint::Length(8), Constraint::Min(3)])
            .areas(frame.area());
    draw_head(frame, head, view, state);
    let [orders, households] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(numbers);
    draw_orders(frame, orders, state);
    draw_households(frame, households, &state.now);
    draw_shelves(frame, shelves, &state.now);
    draw_events(frame, events, state);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View, state: &State) {
    let up = Duration::from_secs(view.started.elapsed().as_secs());
    let title = Line::from(vec![
        " off ".bold().black().on_green(),
        format!(" up {}, {}× life's pace, Ctrl-C stops ", humantime::format_duration(up), view.speed).into(),
        if state.is_blind { " Postgres does not answer ".black().on_yellow() } else { Span::default() },
    ]);
    let addresses: Vec<Span<'_>> = view
        .services
        .iter()
        .filter(|service| service.name == "users" || service.name == "orders")
        .map(|service| Span::from(format!(" {} {}/docs ", service.name, service.url)).dim())
        .collect();
    // What is stuck matters more than where the documentation is.
    let below = match &state.stuck {
        Some(stuck) => Line::from(format!(" {stuck} ").black().on_yellow()),
        None => Line::from(addresses),
    };
    frame.render_widget(Paragraph::new(vec![title, below]), area);
}

fn draw_orders(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Snapshot { pending, shipped, completed, unpublished, .. } = state.now;
    let (placed, done) = state.rates;
    let rows = [
        Row::new(vec![
            Line::from("pending".cyan()),
            number(pending),
            Line::from(format!("{placed:.1} placed/s")).dim(),
        ]),
        Row::new(vec![Line::from("shipped".blue()), number(shipped), Line::default()]),
        Row::new(vec![
            Line::from("completed".green()),
            number(completed),
            Line::from(format!("{done:.1} completed/s")).dim(),
        ]),
        Row::new(vec![Line::from("unpublished"), number(unpublished), Line::default()]),
    ];
    let widths = [Constraint::Length(14), Constraint::Length(11), Constraint::Fill(1)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" Orders ")), area);
}

fn draw_households(frame: &mut Frame<'_>, area: Rect, now: &Snapshot) {
    let rows = [
        Row::new(vec![Line::from("households"), number(now.households)]),
        Row::new(vec![Line::from("devices"), number(now.devices)]),
        Row::new(vec![Line::from("deliveries"), number(now.deliveries)]),
        Row::new(vec![Line::from("shelves low".yellow()), number(now.low)]),
    ];
    let widths = [Constraint::Length(13), Constraint::Length(11)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title(" Households ")), area);
}

fn draw_shelves(frame: &mut Frame<'_>, area: Rect, now: &Snapshot) {
    let rows = now.lowest.iter().take(usize::from(area.height.saturating_sub(2))).map(|shelf| {
        Row::new(vec![
            Line::from(format!("ssd {}", shelf.ssd_id)),
            Line::from(format!("{} left", shelf.quantity)),
            Line::from(format!("for {:.0} s", shelf.seconds)).dim(),
            Line::from(shelf.name.as_str()),
        ])
    });
    let widths = [Constraint::Length(12), Constraint::Length(9), Constraint::Length(12), Constraint::Fill(1)];
    let block = Block::bordered().title(" Running low, and ordered again ");
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let lines: Vec<Line<'_>> =
        state.events.iter().take(usize::from(area.height.saturating_sub(2))).map(event_line).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Events ")), area);
}

fn event_line(event: &SeenEvent) -> Line<'_> {
    let color = match event.subject.as_str() {
        "orders.pending" => Color::Cyan,
        "orders.shipped" => Color::Blue,
        "orders.completed" | "users.registered" => Color::Green,
        "stock.low" => Color::Yellow,
        _ => Color::Red,
    };
    Line::from(vec![
        Span::from(event.at.with_timezone(&Local).format("%H:%M:%S%.3f  ").to_string()).dim(),
        Span::styled(format!("{:<17} ", event.subject), Style::new().fg(color)),
        Span::from(event.text.as_str()),
    ])
}

fn number(count: i64) -> Line<'static> {
    Line::from(count.to_string()).right_aligned().bold()
}
