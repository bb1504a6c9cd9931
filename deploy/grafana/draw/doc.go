// Package draw draws a dashboard as SVG from the answers to its queries, where there is no Grafana: for a README, a mail, a test. The layout,
// titles, units, colours, mappings and thresholds are the dashboard's; the pixels are ours.
//
// # Invariants
//
//   - D1 What is drawn comes from the dashboard and the answers alone. The same input gives the same bytes.
//   - D2 Text never leaves its panel: it is shortened by widths that are those of a wide font.
//   - D3 It can be read on a light and on a dark page: the picture brings its own background, and follows the reader's preference.
//
// # Neighbours
//
// Package grafana reads dashboards and runs queries; command snapshot puts the two together.
package draw
