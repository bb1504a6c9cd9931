// Command snapshot draws a dashboard as SVG from a running ClickHouse: it runs the queries of the dashboard's panels and annotations as
// Grafana would, and draws the answers.
//
//	go run ./deploy/grafana/snapshot --dsn http://reader:...@127.0.0.1:8123/tidemark --dashboard overview -o overview.svg
//
//	--dsn        http://, https:// or clickhouse://, with the database of the views
//	--dashboard  overview, stream, runs, pipeline or records
//	--from, --to now, now-6h, or a time such as 2026-11-21T12:00:00Z; by default the dashboard's own range
//	--var        name=value, once for each value; what is not named is chosen as Grafana does at first
//	--rows       rows of the grid to draw, from the top; 0: all
//	-o           the file; by default the standard output
package main
