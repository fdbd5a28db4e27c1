//! The page of a suite: one static HTML file beside the clips.

use super::{Cell, Prompt};
use crate::report;
use crate::shown::shown;
use htmlize::escape_attribute;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem;background:#fafafa;color:#222}\
table{border-collapse:collapse}th,td{vertical-align:top;padding:.6rem;border-top:1px solid #ddd;text-align:left}\
thead th{position:sticky;top:0;background:#fafafa;border:0}td.prompt{max-width:22rem}video{width:22rem;display:block;background:#000}\
img{width:22rem;display:block;margin-top:.3rem}small{color:#666}.hard{color:#a40}\
@media(prefers-color-scheme:dark){body,thead th{background:#181818;color:#ddd}th,td{border-color:#333}small{color:#999}}";

/// Returns the HTML of the page. `headings` are the names of the columns; each row has one cell per column.
pub fn html(title: &str, seed: u64, headings: &[&str], prompts: &[&Prompt], rows: &[Vec<Cell>]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{} prompts, seed {seed}, Kinora {}.</p>\n\
         <table><thead><tr><th>prompt</th>",
        prompts.len(),
        env!("CARGO_PKG_VERSION"),
        title = escape_text(title),
    );
    for name in headings {
        let _ = write!(page, "<th>{}</th>", escape_text(name));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (prompt, cells) in prompts.iter().zip(rows) {
        let _ = write!(page, "<tr><td class=\"prompt\"><small>{}</small>", escape_text(&prompt.category));
        if prompt.known_hard {
            page.push_str(" <small class=\"hard\">known to be hard</small>");
        }
        let _ = write!(page, "<p>{}</p>", escape_text(&prompt.text));
        for more in [&prompt.english, &prompt.note].into_iter().flatten() {
            let _ = write!(page, "<p><small>{}</small></p>", escape_text(more));
        }
        page.push_str("</td>");
        page.extend(cells.iter().map(of_cell));
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table>\n</html>\n");
    page
}

/// `text`, which may be somebody else's, as text of HTML.
fn escape_text(text: &str) -> String {
    htmlize::escape_text(shown(text)).into_owned()
}

fn of_cell(Cell { clip, sheet, made }: &Cell) -> String {
    let link = |path: &std::path::Path| escape_attribute(path.to_string_lossy().replace('\\', "/")).into_owned();
    format!(
        "<td><video src=\"{}\" controls loop playsinline preload=\"metadata\"></video>\
         <img src=\"{}\" alt=\"\" loading=\"lazy\"><small>{}×{}, {} frames, seed {}, {} ({} of it decoding)</small></td>",
        link(clip),
        link(sheet),
        made.width,
        made.height,
        made.frames,
        made.seed,
        report::seconds(made.seconds),
        report::seconds(made.decode_seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::suite::Made;

    #[test]
    fn what_prompts_say_is_no_markup() {
        let prompt = Prompt {
            text: "<script>a & b</script>".into(),
            english: None,
            category: "a<b".into(),
            known_hard: true,
            note: None,
        };
        let made = Made {
            prompt: String::new(),
            seed: 7,
            width: 64,
            height: 32,
            frames: 5,
            seconds: 61.0,
            decode_seconds: 0.5,
        };
        let cell = Cell { clip: "a\"b/001.mp4".into(), sheet: "s.png".into(), made };
        let page = html("t<", 7, &["x>"], &[&prompt], &[vec![cell]]);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;a &amp; b"));
        assert!(page.contains("a&quot;b/001.mp4") && page.contains("1:01 min") && page.contains("known to be hard"));
    }
}
