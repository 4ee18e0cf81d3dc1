//! Where the parts of the screen are.

use ratatui::layout::Rect;

use super::scene::Scene;

/// The part of the screen between the tabs and the last lines.
pub(super) fn body(scene: &Scene, area: Rect) -> Rect {
    let below = 1 + u16::from(scene.timeline.is_some());
    Rect { y: area.y + 2, height: area.height.saturating_sub(2 + below), ..area }
}
