package warehouse

import "testing"

func TestX(t *testing.T) {
	w := ready(t, 1)
	rows, err := w.conn.Query(t.Context(), "SELECT name, create_table_query FROM system.tables WHERE database='tidemark'")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var a, b string
		rows.Scan(&a, &b)
		t.Log(a)
	}
	for _, v := range Views() {
		params := ""
		switch v {
		case "v1_record_history":
			params = "(environment='a',integration='a',connection='a',model='a',variant='a',record_id='x')"
		case "v1_field_changes":
			params = "(environment='a',integration='a',connection='a',model='a',variant='a',since='2020-01-01 00:00:00',until='2030-01-01 00:00:00')"
		case "v1_spurious_updates", "v1_hot_records":
			params = "(environment='a',since='2020-01-01 00:00:00',until='2030-01-01 00:00:00')"
		}
		rows, err := w.conn.Query(t.Context(), "SELECT * FROM tidemark."+v+params)
		if err != nil {
			t.Error(v, err)
			continue
		}
		rows.Close()
	}
}
