// Command buyer fetches URLs and pays for those that answer 402 with an L402 challenge.
//
//	buyer -lnd HOST:PORT -tls tls.cert -macaroon admin.macaroon -store FOLDER [-headers both|l402] \
//	      [-post BODY] URL...
//
// It is made of Lightning Labs' own packages: aperture's token store, macaroons and header lines,
// and lndclient to pay. It keeps one token in its store and shows it to every URL; where the token
// is refused it buys another one, once. For each URL it prints one line of JSON.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/lightninglabs/aperture/l402"
	"github.com/lightninglabs/lndclient"
	"github.com/lightningnetwork/lnd/lnrpc"
	"gopkg.in/macaroon.v2"
)

const (
	maxFeeMsat = 10_000
	payWithin  = time.Minute
	tokenFile  = "l402.token" // where aperture's FileStore looks for a paid token
)

// The form in which aperture's own client interceptor expects a challenge.
var challengeForm = regexp.MustCompile(`^(?:LSAT|L402) macaroon="(.*?)", invoice="(.*?)"`)

// report is what is printed of one URL.
type report struct {
	URL      string `json:"url"`
	Status   int    `json:"status"`
	PaidMsat uint64 `json:"paid_msat"`
	Body     string `json:"body"`

	// Authorization has the header lines that the URL was asked with in the end.
	Authorization []string `json:"authorization"`
}

type buyer struct {
	lnd     lndclient.LndServicesConfig
	folder  string
	store   l402.Store
	oneLine bool   // lnget's single "L402 ..." line instead of aperture's two lines
	post    string // the body to post; GET without
}

func main() {
	log.SetFlags(0)
	b := buyer{lnd: lndclient.LndServicesConfig{Network: lndclient.NetworkRegtest}}
	flag.StringVar(&b.lnd.LndAddress, "lnd", "", "gRPC address of the lnd that pays")
	flag.StringVar(&b.lnd.TLSPath, "tls", "", "its tls.cert")
	flag.StringVar(&b.lnd.CustomMacaroonPath, "macaroon", "", "its admin.macaroon")
	flag.StringVar(&b.folder, "store", "", "folder of the token")
	headers := flag.String("headers", "both", "both: an LSAT and an L402 line; l402: one line")
	flag.StringVar(&b.post, "post", "", "JSON to post instead of getting the URLs")
	flag.Parse()
	b.oneLine = *headers == "l402"
	if err := b.run(flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func (b *buyer) run(urls []string) error {
	store, err := l402.NewFileStore(b.folder)
	if err != nil {
		return err
	}
	b.store = store
	for _, url := range urls {
		said, err := b.fetch(url)
		if err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
			return err
		}
	}
	return nil
}

// fetch gets a URL, and buys a token if it is asked to.
func (b *buyer) fetch(url string) (report, error) {
	said, header, err := b.get(url)
	if err != nil || said.Status != http.StatusPaymentRequired {
		return said, err
	}
	paid, err := b.buy(header.Get("WWW-Authenticate"))
	if err != nil {
		return said, err
	}
	said, _, err = b.get(url)
	said.PaidMsat = paid
	return said, err
}

// get asks for the URL once, with the token of the store if there is one.
func (b *buyer) get(url string) (report, http.Header, error) {
	said := report{URL: url}
	request, err := b.request(url)
	if err != nil {
		return said, nil, err
	}
	if err := b.authorize(request.Header); err != nil {
		return said, nil, err
	}
	said.Authorization = request.Header.Values("Authorization")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return said, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	said.Status, said.Body = response.StatusCode, string(body)
	return said, response.Header, err
}

func (b *buyer) request(url string) (*http.Request, error) {
	if b.post == "" {
		return http.NewRequest(http.MethodGet, url, nil)
	}
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(b.post))
	if err == nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

// authorize writes the store's token, its macaroon extended by the preimage, into header.
func (b *buyer) authorize(header http.Header) error {
	token, err := b.store.CurrentToken()
	if errors.Is(err, l402.ErrNoToken) {
		return nil
	}
	if err != nil {
		return err
	}
	paid, err := token.PaidMacaroon()
	if err != nil {
		return err
	}
	if err := l402.SetHeader(&header, paid, token.Preimage); err != nil {
		return err
	}
	if b.oneLine {
		_, credential, _ := strings.Cut(header.Get("Authorization"), " ")
		header.Set("Authorization", "L402 "+credential)
	}
	return nil
}

// buy pays a challenge's invoice, keeps the token, and returns what was paid in msat.
func (b *buyer) buy(challenge string) (uint64, error) {
	parts := challengeForm.FindStringSubmatch(challenge)
	if parts == nil {
		return 0, fmt.Errorf("no challenge: %q", challenge)
	}
	raw, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return 0, err
	}
	unpaid := &macaroon.Macaroon{}
	if err := unpaid.UnmarshalBinary(raw); err != nil {
		return 0, err
	}
	id, err := l402.DecodeIdentifier(bytes.NewReader(unpaid.Id()))
	if err != nil {
		return 0, err
	}
	payment, err := b.pay(parts[2])
	if err != nil {
		return 0, err
	}
	if payment.Preimage.Hash() != id.PaymentHash {
		return 0, errors.New("the preimage is not that of the macaroon's payment hash")
	}
	return uint64(payment.Value), b.keep(raw, id, payment)
}

func (b *buyer) pay(invoice string) (*lndclient.PaymentStatus, error) {
	lnd, err := lndclient.NewLndServices(&b.lnd)
	if err != nil {
		return nil, err
	}
	defer lnd.Close()
	ctx, cancel := context.WithTimeout(context.Background(), payWithin)
	defer cancel()
	statuses, failures, err := lnd.Router.SendPayment(ctx, lndclient.SendPaymentRequest{
		Invoice: invoice, MaxFeeMsat: maxFeeMsat, Timeout: payWithin,
	})
	if err != nil {
		return nil, err
	}
	for {
		select {
		case status := <-statuses:
			switch status.State {
			case lnrpc.Payment_SUCCEEDED:
				return &status, nil
			case lnrpc.Payment_FAILED:
				return nil, fmt.Errorf("the payment failed: %v", status.FailureReason)
			}
		case err := <-failures:
			return nil, err
		}
	}
}

// keep writes a paid token as aperture's FileStore reads it: the package exports no way to make a
// token of a challenge.
func (b *buyer) keep(raw []byte, id *l402.Identifier, payment *lndclient.PaymentStatus) error {
	var content bytes.Buffer
	for _, field := range []any{
		uint32(len(raw)), raw, id.PaymentHash, payment.Preimage,
		uint64(payment.Value), uint64(payment.Fee), time.Now().UnixNano(),
	} {
		if err := binary.Write(&content, binary.BigEndian, field); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(b.folder, tokenFile), content.Bytes(), 0o600)
}
