package devkafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func metadataRequest() *kmsg.MetadataRequest { return kmsg.NewPtrMetadataRequest() }

func clusterIDOf(resp kmsg.Response) *string { return resp.(*kmsg.MetadataResponse).ClusterID }

// createByProtocol creates a topic as any client would.
func createByProtocol(t testing.TB, addr, topic string, partitions int32, configs ...string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, -1
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		rt.Configs = append(rt.Configs, c)
	}
	req.Topics = append(req.Topics, rt)
	cl := newClient(t, addr)
	defer cl.Close()
	resp, err := req.RequestWith(t.Context(), cl)
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
}

// versionsWithProduce8 pins Produce to the version whose answers carry a text, topics still having names.
func versionsWithProduce8() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.Produce), 8)
	return v
}
