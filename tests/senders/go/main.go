// Asks a library for Go about a request: a line in is {"code", "request", "key"}, a line out {"accepted", "why"}.
// The code is the name of a verifier below.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"github.com/PagerDuty/go-pagerduty/webhookv3"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	svix "github.com/svix/svix-webhooks/go"
)

type asked struct {
	Code    string `json:"code"`
	Key     string `json:"key"`
	Request struct {
		URL     string      `json:"url"`
		Headers [][2]string `json:"headers"`
		Body    []byte      `json:"body"`
	} `json:"request"`
}

type answer struct {
	Accepted bool   `json:"accepted"`
	Why      string `json:"why"`
}

// Each says what is wrong with a request, or nil.
var verifiers = map[string]func(*http.Request, []byte, string) error{
	"svix": func(r *http.Request, body []byte, key string) error {
		webhook, err := svix.NewWebhook(key)
		if err != nil {
			return err
		}
		return webhook.Verify(body, r.Header)
	},
	"standardwebhooks": func(r *http.Request, body []byte, key string) error {
		webhook, err := standardwebhooks.NewWebhook(key)
		if err != nil {
			return err
		}
		return webhook.Verify(body, r.Header)
	},
	"pagerduty": func(r *http.Request, _ []byte, key string) error {
		return webhookv3.VerifySignature(r, key)
	},
	"cloudevents": func(r *http.Request, _ []byte, _ string) error {
		event, err := cloudevents.NewEventFromHTTPRequest(r)
		if err != nil {
			return err
		}
		return event.Validate()
	},
}

func ask(a asked) error {
	verifier, known := verifiers[a.Code]
	if !known {
		return errors.New("no verifier " + a.Code)
	}
	request, err := http.NewRequest(http.MethodPost, a.Request.URL, bytes.NewReader(a.Request.Body))
	if err != nil {
		return err
	}
	for _, header := range a.Request.Headers {
		request.Header.Add(header[0], header[1])
	}
	return verifier(request, a.Request.Body, a.Key)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var a asked
		err := json.Unmarshal(lines.Bytes(), &a)
		if err == nil {
			err = ask(a)
		}
		said := answer{Accepted: err == nil, Why: "no error"}
		if err != nil {
			said.Why = err.Error()
		}
		if out.Encode(said) != nil {
			os.Exit(1)
		}
	}
}
