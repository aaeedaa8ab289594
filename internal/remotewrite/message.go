package remotewrite

import (
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/prompb"

	"github.com/promagg/promagg/internal/merge"
)

var typesV2 = map[dto.MetricType]writev2.Metadata_MetricType{
	dto.MetricType_COUNTER:   writev2.Metadata_METRIC_TYPE_COUNTER,
	dto.MetricType_GAUGE:     writev2.Metadata_METRIC_TYPE_GAUGE,
	dto.MetricType_HISTOGRAM: writev2.Metadata_METRIC_TYPE_HISTOGRAM,
	dto.MetricType_SUMMARY:   writev2.Metadata_METRIC_TYPE_SUMMARY,
}

// messageV2 is a batch as a message of remote write 2.0.
func messageV2(b *batch) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	refs := func(labels []merge.Label) []uint32 {
		r := make([]uint32, 0, 2*len(labels))
		for _, l := range labels {
			r = append(r, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		return r
	}
	metadata := make(map[*family]*writev2.Metadata)
	r := &writev2.Request{Timeseries: make([]*writev2.TimeSeries, len(b.points))}
	for i, p := range b.points {
		f := p.series.family
		if metadata[f] == nil {
			metadata[f] = &writev2.Metadata{Type: typesV2[f.typ], HelpRef: symbols.Symbolize(f.help), UnitRef: symbols.Symbolize(f.unit)}
		}
		ts := &writev2.TimeSeries{
			LabelsRefs:       refs(p.series.labels),
			Samples:          []*writev2.Sample{{Value: p.value, Timestamp: b.at}},
			Metadata:         metadata[f],
			CreatedTimestamp: p.series.created,
		}
		if x := p.exemplar; x != nil {
			ts.Exemplars = []*writev2.Exemplar{{LabelsRefs: refs(x.labels), Value: x.value, Timestamp: x.at}}
		}
		r.Timeseries[i] = ts
	}
	r.Symbols = symbols.Symbols()
	return r
}

var typesV1 = map[dto.MetricType]prompb.MetricMetadata_MetricType{
	dto.MetricType_COUNTER:   prompb.MetricMetadata_COUNTER,
	dto.MetricType_GAUGE:     prompb.MetricMetadata_GAUGE,
	dto.MetricType_HISTOGRAM: prompb.MetricMetadata_HISTOGRAM,
	dto.MetricType_SUMMARY:   prompb.MetricMetadata_SUMMARY,
}

// messageV1 is a batch as a message of remote write 1.0. The metadata of its
// families goes with it; created timestamps have no place in it.
func messageV1(b *batch) *prompb.WriteRequest {
	labels := func(from []merge.Label) []prompb.Label {
		to := make([]prompb.Label, len(from))
		for i, l := range from {
			to[i] = prompb.Label{Name: l.Name, Value: l.Value}
		}
		return to
	}
	seen := make(map[*family]bool)
	r := &prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, len(b.points))}
	for i, p := range b.points {
		if f := p.series.family; !seen[f] {
			seen[f] = true
			r.Metadata = append(r.Metadata, prompb.MetricMetadata{Type: typesV1[f.typ], MetricFamilyName: f.name, Help: f.help, Unit: f.unit})
		}
		ts := &r.Timeseries[i]
		ts.Labels = labels(p.series.labels)
		ts.Samples = []prompb.Sample{{Value: p.value, Timestamp: b.at}}
		if x := p.exemplar; x != nil {
			ts.Exemplars = []prompb.Exemplar{{Labels: labels(x.labels), Value: x.value, Timestamp: x.at}}
		}
	}
	return r
}
