{{/* Labels that name a service's pods, of dict "root" "service". */}}
{{- define "spin.selector" -}}
app.kubernetes.io/name: spin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "spin.labels" -}}
{{ include "spin.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "spin.name" -}}
{{ .root.Release.Name | trunc 40 | trimSuffix "-" }}-{{ .service }}
{{- end }}

{{/* The pod of a service: metadata and spec, of dict "root" "service" "blobs" (whether it works with checkpoints). */}}
{{- define "spin.pod" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $own := index $v .service }}
metadata:
  labels:
    {{- include "spin.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ $v.metrics.port | quote }}
spec:
  serviceAccountName: {{ include "spin.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .service }}
      image: {{ with $v.image.registry }}{{ . }}/{{ end }}{{ .service }}:{{ $v.image.tag | default $root.Chart.AppVersion }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - --nats-url={{ $v.nats.url }}
        {{- if $v.nats.secretPrefix }}
        - --nats-ca=/etc/spin/nats/ca.crt
        - --nats-cert=/etc/spin/nats/{{ .service }}.crt
        - --nats-key=/etc/spin/nats/{{ .service }}.key
        - --nats-nkey=/etc/spin/nats/{{ .service }}.nk
        {{- end }}
        {{- if .blobs }}
        - --blob-url={{ $v.blobs.url }}
        - --scratch=/scratch
        {{- with $v.blobs.secret }}
        - --blob-credentials=/etc/spin/blobs/credentials
        {{- end }}
        {{- end }}
        {{- if eq .service "recorder" }}
        - --clickhouse-url={{ $v.clickhouse.url }}
        - --clickhouse-user={{ $v.clickhouse.user }}
        - --clickhouse-password-file=/etc/spin/clickhouse/password
        {{- if $v.clickhouse.ca }}
        - --clickhouse-ca=/etc/spin/clickhouse/ca.crt
        {{- end }}
        {{- end }}
        - --metrics-listen=0.0.0.0:{{ $v.metrics.port }}
        {{- range $own.args }}
        - {{ . | quote }}
        {{- end }}
      ports:
        - name: metrics
          containerPort: {{ $v.metrics.port }}
          protocol: TCP
      # Whoever waits for the broker is alive and not ready; no traffic comes to a pod, so that readiness only tells.
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        initialDelaySeconds: 10
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- $resources := deepCopy $own.resources }}
      {{- if eq .service "trainer" }}
      {{- with $own.gpu }}
      {{- if gt (int .count) 0 }}
      {{- $_ := set $resources "limits" (merge (dict .resource (int .count)) ($resources.limits | default dict)) }}
      {{- $_ := set $resources "requests" (merge (dict .resource (int .count)) ($resources.requests | default dict)) }}
      {{- end }}
      {{- end }}
      {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $v.nats.secretPrefix }}
        - {name: nats, mountPath: /etc/spin/nats, readOnly: true}
        {{- end }}
        {{- if .blobs }}
        - {name: scratch, mountPath: /scratch}
        {{- if $v.blobs.secret }}
        - {name: blobs-credentials, mountPath: /etc/spin/blobs, readOnly: true}
        {{- end }}
        {{- if $v.blobs.claim }}
        - {name: blobs, mountPath: /blobs}
        {{- end }}
        {{- end }}
        {{- if eq .service "recorder" }}
        - {name: clickhouse, mountPath: /etc/spin/clickhouse, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- if $v.nats.secretPrefix }}
    - name: nats
      secret:
        secretName: {{ $v.nats.secretPrefix }}-{{ .service }}
        defaultMode: 0440
    {{- end }}
    {{- if .blobs }}
    {{- if ne .service "trainer" }}
    - name: scratch
      emptyDir: {sizeLimit: {{ $own.scratch }}}
    {{- end }}
    {{- with $v.blobs.secret }}
    - name: blobs-credentials
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with $v.blobs.claim }}
    - name: blobs
      persistentVolumeClaim:
        claimName: {{ . }}
    {{- end }}
    {{- end }}
    {{- if eq .service "recorder" }}
    - name: clickhouse
      secret:
        secretName: {{ $v.clickhouse.secret }}
        defaultMode: 0440
    {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
