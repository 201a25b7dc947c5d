package signer

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// GetCertificate returns the current signing certificate and its chain.
func (s *service) GetCertificate(ctx context.Context, _ *roamsignv1.GetCertificateRequest) (*roamsignv1.GetCertificateResponse, error) {
	if err := s.policy.Load().Permit(callOf(ctx).caller, policy.GetCertificate); err != nil {
		return nil, err
	}
	current := s.inForce()
	callOf(ctx).certificate = current
	out := &roamsignv1.GetCertificateResponse{Certificate: current.leaf.Raw}
	for _, issuer := range current.chain {
		out.Chain = append(out.Chain, issuer.Raw)
	}
	return out, nil
}

// ListTaxpayers lists those for whom the caller may sign now.
func (s *service) ListTaxpayers(ctx context.Context, _ *roamsignv1.ListTaxpayersRequest) (*roamsignv1.ListTaxpayersResponse, error) {
	caller, rules := callOf(ctx).caller, s.policy.Load()
	if err := rules.Permit(caller, policy.ListTaxpayers); err != nil {
		return nil, err
	}
	out := &roamsignv1.ListTaxpayersResponse{}
	for _, t := range rules.Taxpayers(caller, s.inForce().fingerprint, s.clock()) {
		out.Taxpayers = append(out.Taxpayers, &roamsignv1.Taxpayer{
			Tin: string(t.TIN), Brn: t.BRN, Name: t.Name, Methods: texts(t.Methods),
			NotBefore: timestamp(t.From), NotAfter: timestamp(t.To),
			Rights: texts(t.Rights), Intermediary: t.Intermediary,
		})
	}
	return out, nil
}

func texts[S ~string](names []S) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = string(name)
	}
	return list
}

// timestamp leaves out what is unbounded.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
