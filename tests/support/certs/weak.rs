//! Certificates that are too weak to be trusted. ring makes none, so these were made once with OpenSSL 3.0:
//!
//! ```sh
//! openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key
//! openssl req -new -key leaf.key -subj "/CN=weak test server" -out leaf.csr
//! openssl req -x509 -newkey rsa:1024 -nodes -keyout root.key -sha256 -days 27000 \
//!     -subj "/CN=weak test authority, RSA 1024" -out root.pem     # and with rsa:2048 for SHA-1
//! openssl ca -config ca.cnf -cert root.pem -keyfile root.key -md sha256 -in leaf.csr -out leaf.pem \
//!     -startdate 20010101000000Z -enddate 21000101000000Z -extfile leaf.ext      # and with -md sha1
//! ```
//!
//! `leaf.ext` has `subjectAltName=DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1` and
//! `basicConstraints=critical,CA:FALSE`. The keys of the roots were thrown away.

/// The private key of both leaves, P-256.
pub(super) const LEAF_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMCNClly8B4bxE4Vz
HqAuKJU+sFiRLHMYZXRGxOfdf5mhRANCAAQ7+Jcsc5gXEekT5Z+leRIV2wYRGD8t
CCzxzX2ixxL6h9EDnskRZmMJ9j4VEDoeghkapxSGpdhnUZWZ+XyTtbOB
-----END PRIVATE KEY-----
";

/// A root with an RSA key of 1024 bits.
pub(super) const RSA_1024_ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIICLjCCAZegAwIBAgIUObpD0hGDTGydjvt1vFpAnoexPagwDQYJKoZIhvcNAQEL
BQAwKDEmMCQGA1UEAwwdd2VhayB0ZXN0IGF1dGhvcml0eSwgUlNBIDEwMjQwIBcN
MjYxMTIxMTU0OTQ1WhgPMjEwMDEwMjQxNTQ5NDVaMCgxJjAkBgNVBAMMHXdlYWsg
dGVzdCBhdXRob3JpdHksIFJTQSAxMDI0MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
iQKBgQCksIAm3fUy2VJzDXaPEnspeT5y3SwUuAgm1CeF5vJrZL56lVIE3VYSCfwD
P/6Do5A2b1y3i4JfCK4W8yHLYy6ny37CXie4aFY10pxLQdlJ2v+R0z2d5I7Rvc3Z
ZPozQvew11Kkh2YKGFM1o0Ca0T+qvPAU+CRHMDycnTM08wU5awIDAQABo1MwUTAd
BgNVHQ4EFgQUxs+p4EceZcL6SYQ73XIe3J4YCkgwHwYDVR0jBBgwFoAUxs+p4Ece
ZcL6SYQ73XIe3J4YCkgwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOB
gQA+656fnEr+k9Sg2y2zdHepJAdJM9jf+1hBVLZ2Jq7OjBZriLggCOjLzzvH9jH/
RH4T67Y+HYSAn/xqq0oMDdc5dkK/6y7rermPrMYu9rzltA9Sf4depJesji33+ou2
JQCbtxtF4C783SeJFsuuHbJohXlpiRZR9cO1V+kqZP8nRA==
-----END CERTIFICATE-----
";

/// What it issued, signed with SHA-256.
pub(super) const RSA_1024_LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIICBTCCAW6gAwIBAgIUWmXt+W9mYIbodok6aW8YkgGCllgwDQYJKoZIhvcNAQEL
BQAwKDEmMCQGA1UEAwwdd2VhayB0ZXN0IGF1dGhvcml0eSwgUlNBIDEwMjQwIBcN
MDEwMTAxMDAwMDAwWhgPMjEwMDAxMDEwMDAwMDBaMBsxGTAXBgNVBAMMEHdlYWsg
dGVzdCBzZXJ2ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ7+Jcsc5gXEekT
5Z+leRIV2wYRGD8tCCzxzX2ixxL6h9EDnskRZmMJ9j4VEDoeghkapxSGpdhnUZWZ
+XyTtbOBo34wfDAsBgNVHREEJTAjgglsb2NhbGhvc3SHBH8AAAGHEAAAAAAAAAAA
AAAAAAAAAAEwDAYDVR0TAQH/BAIwADAdBgNVHQ4EFgQUfC+midJE8oUf8xbzGOAy
MRjGLAQwHwYDVR0jBBgwFoAUxs+p4EceZcL6SYQ73XIe3J4YCkgwDQYJKoZIhvcN
AQELBQADgYEARIWjSsH6Z0jkVFUoGfyPESz4OBMRrbtOQS9s3XNi1A7O/uhBtQZY
ipAphzeXr+F3tEmq+oIQ2VOvTLGr+SpxG7N0stvSiQvTuhhP/LnnzdKS2C5F2r7J
wQGUj383/E/njFkjboN+3C3wfACzaVz+zC0naY9lAEU6694v1rU4jJ0=
-----END CERTIFICATE-----
";

/// A root with an RSA key of 2048 bits.
pub(super) const SHA_1_ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIDLTCCAhWgAwIBAgIUVEGnaL4YpBRBO7Tw8/mB8Xnq20YwDQYJKoZIhvcNAQEL
BQAwJTEjMCEGA1UEAwwad2VhayB0ZXN0IGF1dGhvcml0eSwgU0hBLTEwIBcNMjYx
MTIxMTU0OTQ2WhgPMjEwMDEwMjQxNTQ5NDZaMCUxIzAhBgNVBAMMGndlYWsgdGVz
dCBhdXRob3JpdHksIFNIQS0xMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKC
AQEAo/U3Vgp9ETUU9CBShAI5WYcaoZMXH0k8mtXUKW51NC1Byi5cpLbR8prWFmFs
EahQatdXrAszcVwgz+TA6B/7D9ixSmQhELNSG3lobbXwulZo5kASSn4BBql+O2QK
EnDKXGLW3/Z1WATY+DeXZWGSSRoR4+/Va2jSG2L1RiDkxeRahXhhee6n0WyeyAV3
KhNgvBihP1KUZVXeRy7n7nRBY+gNvpB7az19rVsorRx1i4rZh1BD1bt1XtO7Mzp1
Bkq1htP8c5PhMlqeeR5wp8Jwc34bONHXB3QJSWGq/vGQMeSq/ow83t4q4i+Jbugq
fzy1lKM3FsCDP4OPr+6Sg4vtQwIDAQABo1MwUTAdBgNVHQ4EFgQUFK7Q5eSD5ruY
NgVQUdy8i4xiCLEwHwYDVR0jBBgwFoAUFK7Q5eSD5ruYNgVQUdy8i4xiCLEwDwYD
VR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOCAQEAE6FT3DIYHsgIbHhxnp+L
FmQPGuhnWRf3DSz/VVgMGDppwt5docmHdpKi9oIVQh1VSEtIqeRgSVy1gRSVKmFl
OcHBwYra3tr/ttTDqb8/g9GII/RZD1UISo/3RNNHiP8ZengrzbT3gZ9SgglSENVG
kp7oZF3U33UTqMkWdBEsWSs1DBekSOpNg/62JABYmsUPtF01MzAcXbTxb5kmdSyi
E3HmIpmeGhgZPuSxczeh2lXDP/JdfeADXaXoAbDhQYQ4BpFHsfzE5vjD0r0VRkUO
hGgcUXnHPAlPn5Ry2R7GgcNXHrA65VfIqZ1wLBR7b6nvwn20HaEKauoSI0MmztKa
zg==
-----END CERTIFICATE-----
";

/// What it issued, signed with SHA-1.
pub(super) const SHA_1_LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIICgzCCAWugAwIBAgIUAklXK0vV5O+j7ugAZ9odmOTcn/IwDQYJKoZIhvcNAQEF
BQAwJTEjMCEGA1UEAwwad2VhayB0ZXN0IGF1dGhvcml0eSwgU0hBLTEwIBcNMDEw
MTAxMDAwMDAwWhgPMjEwMDAxMDEwMDAwMDBaMBsxGTAXBgNVBAMMEHdlYWsgdGVz
dCBzZXJ2ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ7+Jcsc5gXEekT5Z+l
eRIV2wYRGD8tCCzxzX2ixxL6h9EDnskRZmMJ9j4VEDoeghkapxSGpdhnUZWZ+XyT
tbOBo34wfDAsBgNVHREEJTAjgglsb2NhbGhvc3SHBH8AAAGHEAAAAAAAAAAAAAAA
AAAAAAEwDAYDVR0TAQH/BAIwADAdBgNVHQ4EFgQUfC+midJE8oUf8xbzGOAyMRjG
LAQwHwYDVR0jBBgwFoAUFK7Q5eSD5ruYNgVQUdy8i4xiCLEwDQYJKoZIhvcNAQEF
BQADggEBAByH9uhKQx4GrGPeGdJn4oNzo9iDZY02YaEAOAGxpLUdVWRwXtMVZpr1
re6p8FbEwQitoR8R0y5xHPlBjvoqQ9VhEIj8+8nfX8WZtFQAziJUWsTNiOMgeYHj
lln74elvwcYq687UMJVvxIzSvqcKzUuFVRSPGNzOJuZJUZZI+8IbH9IaTTm2sHx3
NEC3m0LqEObFmh64NL4de7vCn7pMm/k/UxcyEr0E0eVZnk+qzC4m7RuzAZJURG6/
47i7wm69tJZC6JajRzqdqpDbEa5ycXbCB6hZC4peclLx5HG7FzRqgncNB7AmXMCb
Xp0iotjC+ckPZQ3haQXboYDBbUbV4xU=
-----END CERTIFICATE-----
";
