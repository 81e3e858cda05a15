{{- define "bdh.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "bdh.labels" -}}
app.kubernetes.io/name: bdh
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "bdh.tokenSecret" -}}
{{ .Values.meshTokenSecret | default (printf "%s-mesh-token" (include "bdh.name" .)) }}
{{- end }}

{{- /* The section of a daemon in the configuration, and its ports: as DESIGN has them everywhere. */}}
{{- define "bdh.ports" -}}
data-loader: {rpc: 7011, admin: 7012}
trainer-worker: {rpc: 7021, admin: 7022}
checkpoint-store: {rpc: 7031, admin: 7032}
inference: {rpc: 7041, admin: 7042}
gateway: {rpc: 7051, admin: 7052}
{{- end }}

{{- /* One configuration for all five: each reads its own section, and mesh to find the others. */}}
{{- define "bdh.config" -}}
{{- $name := include "bdh.name" . }}
{{- $config := dict "mesh" (dict "token_file" "/etc/bdh-mesh/mesh-token" "gateway_url" (printf "http://%s-gateway:%v" $name .Values.service.port)) }}
{{- range $daemon, $port := include "bdh.ports" . | fromYaml }}
{{- $section := replace "-" "_" $daemon }}
{{- $_ := set $config.mesh $section (printf "dns:///%s-%s-pods:%v" $name $daemon $port.rpc) }}
{{- $_ := set $config $section (dict "listen" (printf "0.0.0.0:%v" $port.rpc) "admin_listen" (printf "0.0.0.0:%v" $port.admin)) }}
{{- if ne $daemon "gateway" }}
{{- $_ := set (get $config $section) "data_dir" "/var/lib/bdh" }}
{{- end }}
{{- end }}
{{- $_ := set $config.gateway "http_listen" "0.0.0.0:8000" }}
{{- $_ := set $config.gateway "insecure" .Values.insecure }}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml }}
{{- end }}
