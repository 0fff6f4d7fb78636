// A Google Cloud Storage for tests, on one address and in memory.
//
// The state and the decisions are those of fake-gcs-server, used as a library and unchanged: what an object is, whether
// a put's generation precondition holds (compared and stored under one lock), what a listing holds and where its page
// ends. That emulator knows preconditions and pages on Google's JSON interface only; Keepfast speaks the XML interface,
// as object_store does. So this program says in JSON's words what was asked in XML's, and nothing else:
//
//	PUT /bucket                    makes a bucket
//	PUT /bucket/object             an upload; `x-goog-if-generation-match` becomes `ifGenerationMatch`
//	GET, HEAD, DELETE /bucket/object   as the emulator answers them itself
//	GET /bucket?list-type=2        a listing with `prefix`, `delimiter`, `start-after`, `max-keys` and pages of 1,000
//
// Whatever else the XML interface has is answered with 501, multipart uploads and copies included, so that no test
// passes because something was ignored. Each request must carry a token that the key of the one service account
// signed; the key is made at the start and written to a file of the form in which Google hands out keys.
package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

const (
	account = "keepfast@test.iam.gserviceaccount.com"
	page    = 1000
	// The host under which the emulator answers the XML interface.
	host = "storage.googleapis.com"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: ADDRESS FILE-FOR-THE-KEY")
	}
	key, err := newKey(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	emulator, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(os.Args[1], &front{emulator, key}))
}

// newKey makes the service account's key and writes it as Google does.
func newKey(file string) (*rsa.PublicKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	written, err := json.Marshal(map[string]string{
		"type":           "service_account",
		"client_email":   account,
		"private_key_id": "1",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		return nil, err
	}
	return &key.PublicKey, os.WriteFile(file, written, 0o600)
}

type front struct {
	emulator *fakestorage.Server
	key      *rsa.PublicKey
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.signed(r.Header.Get("Authorization")) {
		refuse(w, http.StatusUnauthorized, "AuthenticationRequired")
		return
	}
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for name := range r.Header {
		name = strings.ToLower(name)
		known := name == "x-goog-if-generation-match" && r.Method == http.MethodPut
		if strings.HasPrefix(name, "x-goog-") && !known || strings.HasPrefix(name, "if-") {
			refuse(w, http.StatusNotImplemented, "NotImplemented")
			return
		}
	}
	query := r.URL.Query()
	switch {
	case object == "" && r.Method == http.MethodGet && query.Get("list-type") == "2":
		f.list(w, bucket, query)
	case len(query) > 0:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	case object == "" && r.Method == http.MethodPut:
		f.emulator.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	case object != "" && r.Method == http.MethodPut:
		f.put(w, r, bucket, object)
	case object != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		r.Host = host
		f.emulator.HTTPHandler().ServeHTTP(w, r)
	case object != "" && r.Method == http.MethodDelete:
		r.Host = host
		answer := httptest.NewRecorder()
		f.emulator.HTTPHandler().ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			w.WriteHeader(http.StatusNoContent)
		} else {
			refuse(w, answer.Code, "NoSuchKey")
		}
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// signed tells whether a bearer token is a JWT of the service account that holds now.
func (f *front) signed(authorization string) bool {
	token, found := strings.CutPrefix(authorization, "Bearer ")
	parts := strings.Split(token, ".")
	if !found || len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(f.key, crypto.SHA256, hash[:], signature) != nil {
		return false
	}
	var claims struct {
		Issuer string `json:"iss"`
		Scope  string `json:"scope"`
		Ends   int64  `json:"exp"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return false
	}
	return claims.Issuer == account && claims.Scope != "" && claims.Ends > time.Now().Unix()
}

func (f *front) put(w http.ResponseWriter, r *http.Request, bucket, object string) {
	query := url.Values{"uploadType": {"media"}, "name": {object}}
	if generation := r.Header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	to := fmt.Sprintf("http://%s/upload/storage/v1/b/%s/o?%s", host, url.PathEscape(bucket), query.Encode())
	upload, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to, r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidURI")
		return
	}
	upload.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	answer := httptest.NewRecorder()
	f.emulator.HTTPHandler().ServeHTTP(answer, upload)
	var stored struct {
		ETag       string `json:"etag"`
		Generation string `json:"generation"`
	}
	switch answer.Code {
	case http.StatusOK:
		if err := json.Unmarshal(answer.Body.Bytes(), &stored); err != nil {
			refuse(w, http.StatusInternalServerError, "InternalError")
			return
		}
		w.Header().Set("ETag", strconv.Quote(strings.Trim(stored.ETag, `"`)))
		w.Header().Set("x-goog-generation", stored.Generation)
	case http.StatusPreconditionFailed:
		refuse(w, answer.Code, "PreconditionFailed")
	case http.StatusNotFound:
		refuse(w, answer.Code, "NoSuchBucket")
	default:
		refuse(w, answer.Code, "InvalidArgument")
	}
}

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []content
	CommonPrefixes        []folder
}

type content struct {
	Key          string
	Generation   int64
	LastModified string
	ETag         string
	Size         int64
}

type folder struct{ Prefix string }

func (f *front) list(w http.ResponseWriter, bucket string, query url.Values) {
	options := fakestorage.ListOptions{MaxResults: page}
	for name, values := range query {
		switch name {
		case "list-type":
		case "prefix":
			options.Prefix = values[0]
		case "delimiter":
			options.Delimiter = values[0]
		case "start-after":
			// The JSON interface starts at a name; the least one after a name is it and a zero byte.
			options.StartOffset = values[0] + "\x00"
		case "continuation-token":
			options.PageToken = values[0]
		case "max-keys":
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 1 {
				refuse(w, http.StatusBadRequest, "InvalidArgument")
				return
			}
			options.MaxResults = min(n, page)
		default:
			refuse(w, http.StatusNotImplemented, "NotImplemented")
			return
		}
	}
	found, err := f.emulator.ListObjectsWithOptionsPaginated(bucket, options)
	if err != nil {
		refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	answer := listing{
		Name:                  bucket,
		Prefix:                options.Prefix,
		IsTruncated:           found.NextPageToken != "",
		NextContinuationToken: found.NextPageToken,
	}
	for _, object := range found.Objects {
		answer.Contents = append(answer.Contents, content{
			Key:          object.Name,
			Generation:   object.Generation,
			LastModified: object.Updated.UTC().Format("2006-01-02T15:04:05.000Z"),
			ETag:         strconv.Quote(strings.Trim(object.Etag, `"`)),
			Size:         object.Size,
		})
	}
	for _, prefix := range found.Prefixes {
		answer.CommonPrefixes = append(answer.CommonPrefixes, folder{prefix})
	}
	body := bytes.NewBufferString(xml.Header)
	if err := xml.NewEncoder(body).Encode(answer); err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	_, _ = w.Write(body.Bytes())
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s<Error><Code>%s</Code><Message>%s</Message></Error>", xml.Header, code, http.StatusText(status))
}
