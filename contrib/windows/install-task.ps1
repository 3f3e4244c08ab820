<#
.SYNOPSIS
Lets the Fireworks proxy run from log-on to log-off, as a scheduled task of this user.

.DESCRIPTION
Makes a scheduled task that starts fireworks-proxy.exe without a window when this user logs on, starts it
again within five minutes when it has ended, and writes its log to a file. Starts it at once, too. Needs no
administrator: the task runs as this user, with no more rights than this user has, and ends at log-off.

Written for Windows PowerShell 5.1 and PowerShell 7 on Windows 10 and later. Its syntax is tested; it has
not been run on Windows by its authors, so look at the log after it.

The settings are the FIREWORKS_PROXY_ variables of this user; set them before, for example with
  [Environment]::SetEnvironmentVariable('FIREWORKS_PROXY_MAX_WAIT', '60', 'User')
The state file and the log are in the folder of -Folder. The log of the run before is kept as proxy.log.1.

To stop the proxy for a while: Disable-ScheduledTask -TaskName fireworks-proxy, then kill_proxy.ps1.

Exit codes:
  0  done
  1  a parameter was not accepted, or the program is not there
  2  Windows refused something; what, is said

.PARAMETER Program
The program. The default is fireworks-proxy.exe beside this script, or else in the current folder.

.PARAMETER Folder
The folder of its state file and its log; it is made if there is none.

.PARAMETER TaskName
The name of the task.

.PARAMETER Uninstall
Stops the task and takes it away. State file and log stay. If the proxy still runs, kill_proxy.ps1 stops it.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install-task.ps1 -Program C:\Tools\fireworks-proxy.exe

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install-task.ps1 -Uninstall
#>
[CmdletBinding()]
param(
    [string] $Program = '',

    [string] $Folder = "$env:LOCALAPPDATA\fireworks-proxy",

    [ValidatePattern('^[\w -]+$')]
    [string] $TaskName = 'fireworks-proxy',

    [switch] $Uninstall
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$ExitNotFound = 1
$ExitFailed = 2

# How often it is seen to that the proxy runs. The scheduler's own restarts are for tasks that did not start.
$LookMinutes = 5

$StarterName = 'run-proxy.cmd'

# A name within quotes of cmd: a percent sign would begin a variable there.
function Get-CmdText {
    param([string] $Text)

    '"' + $Text.Replace('%', '%%') + '"'
}

function Find-Program {
    param([string] $Named)

    $places = @($Named)
    if ($Named -eq '') {
        $places = @((Join-Path -Path $PSScriptRoot -ChildPath 'fireworks-proxy.exe'), '.\fireworks-proxy.exe')
    }
    foreach ($place in $places) {
        if (Test-Path -LiteralPath $place -PathType Leaf) {
            return (Resolve-Path -LiteralPath $place).ProviderPath
        }
    }
}

# Takes the task away, if there is one. Others may have one of that name in a folder of their own.
function Remove-Task {
    param([string] $Name)

    $task = Get-ScheduledTask -TaskName $Name -TaskPath '\' -ErrorAction SilentlyContinue
    if ($null -eq $task) {
        return $false
    }
    Stop-ScheduledTask -InputObject $task
    Unregister-ScheduledTask -InputObject $task -Confirm:$false
    return $true
}

# Writes the lines that the task runs. A file of its own, since the log needs a shell, and a command line that
# goes through the task scheduler, conhost and cmd would be quoted three times.
function Write-Starter {
    param([string] $ProgramPath, [string] $FolderPath)

    $lines = @(
        '@echo off',
        'chcp 65001 >nul',
        'if exist proxy.log move /y proxy.log proxy.log.1 >nul',
        ((Get-CmdText -Text $ProgramPath) + ' 2>proxy.log')
    )
    # Without a byte order mark, which cmd would take for a part of the first command.
    $encoding = New-Object -TypeName System.Text.UTF8Encoding -ArgumentList $false
    [IO.File]::WriteAllLines((Join-Path -Path $FolderPath -ChildPath $StarterName), [string[]] $lines, $encoding)
}

function Register-Task {
    param([string] $Name, [string] $FolderPath)

    $user = [Security.Principal.WindowsIdentity]::GetCurrent().Name
    # conhost without a window is how a console program is started hidden from its first moment on.
    $action = New-ScheduledTaskAction -Execute "$env:SystemRoot\System32\conhost.exe" `
        -Argument "--headless cmd.exe /d /c .\$StarterName" -WorkingDirectory $FolderPath
    $triggers = @(
        (New-ScheduledTaskTrigger -AtLogOn -User $user),
        (New-ScheduledTaskTrigger -Once -At ([DateTime]::Now) `
            -RepetitionInterval ([TimeSpan]::FromMinutes($LookMinutes)))
    )
    $principal = New-ScheduledTaskPrincipal -UserId $user -LogonType Interactive -RunLevel Limited
    # While it runs, nothing is started beside it, and it may run for ever. Tasks are of low priority unless they say
    # otherwise; this is that of other programs.
    $settings = New-ScheduledTaskSettingsSet -MultipleInstances IgnoreNew -ExecutionTimeLimit ([TimeSpan]::Zero) `
        -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -Priority 5
    $null = Register-ScheduledTask -TaskName $Name -Action $action -Trigger $triggers `
        -Principal $principal -Settings $settings
    Start-ScheduledTask -TaskName $Name
}

if ([Environment]::OSVersion.Platform -ne 'Win32NT') {
    Write-Warning 'This script is for Windows. For systemd and launchd see contrib/README.md.'
    exit $ExitFailed
}

try {
    if ($Uninstall) {
        if (Remove-Task -Name $TaskName) {
            Write-Output "The task $TaskName is gone. State file and log stay in $Folder."
        }
        else {
            Write-Output "There is no task $TaskName."
        }
        exit 0
    }
    $found = Find-Program -Named $Program
    if ($null -eq $found) {
        Write-Warning "There is no program '$Program'. Name fireworks-proxy.exe with -Program."
        exit $ExitNotFound
    }
    $null = New-Item -ItemType Directory -Path $Folder -Force
    $place = (Resolve-Path -LiteralPath $Folder).ProviderPath
    # Not before it is known that there is something to take its place.
    $null = Remove-Task -Name $TaskName
    Write-Starter -ProgramPath $found -FolderPath $place
    Register-Task -Name $TaskName -FolderPath $place
    Write-Output "The task $TaskName runs $found. Its log is $place\proxy.log."
}
catch {
    Write-Warning "This could not be done: $($_.Exception.Message)"
    exit $ExitFailed
}
exit 0
