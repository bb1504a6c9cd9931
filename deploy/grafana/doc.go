// Package grafana holds the dashboards that show the projections in Grafana, what provisions them, and what can be done with them without
// a Grafana: their queries expanded and run.
//
//	dashboards/     five dashboards, in Grafana's own JSON: these files are the source, nothing generates them
//	provisioning/   the data source and the folder of dashboards, for grafana server
//	README.md       how to start Grafana with them, what each answers, and a cookbook of queries
//	draw/           draws a dashboard from the answers to its queries
//	snapshot/       the command for that
//
// # Invariants
//
//   - G1 Queries read v1_* views and nothing else, so that a change of the tables breaks no dashboard.
//   - G2 Every query of every panel, variable, annotation and of the cookbook runs in the tests, on the embedded ClickHouse, over rows that the
//     projections made, with the login that only reads. A panel that must show something does.
//   - G3 A query means the same here as in Grafana: [Query.Expand] does what Grafana and its ClickHouse data source do with macros and
//     variables, and refuses what they would leave as it is.
//   - G4 No status is said by colour alone: there is a sign, a text or a number with it. The colours can be told apart with any vision.
//
// # Neighbours
//
// projections/warehouse has the views. The tests use deploy/devclickhouse.
package grafana
